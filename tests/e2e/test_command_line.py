"""The command line says what is wrong and what to do, and its output can be piped."""

import json
import socket

import pytest

from conftest import KEY, MODEL, cli, http, wait_for

MANIFEST = """\
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: tiny}
spec:
  source: "file:%s"
"""


def test_print_shows_a_default_that_up_accepts(start, tmp_path):
    printed = cli("up", "--print")
    assert printed.returncode == 0 and "kind: Model" in printed.stdout
    path = tmp_path / "default.yaml"
    path.write_text(printed.stdout)
    assert start("-f", str(path)).ready().post("/v1/chat/completions", {
        "model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})[0] == 200


def test_busy_port():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        ended = cli("up", "--listen", f"127.0.0.1:{port}", "--admin-listen", "127.0.0.1:0")
    assert ended.returncode != 0 and str(port) in ended.stderr and "in use" in ended.stderr


@pytest.mark.parametrize("text, expected", [
    ("kind: Modle\napiVersion: pilotage.dev/v1alpha1\nmetadata: {name: x}\n", ["bad.yaml:1", "Modle", "Model"]),
    ("apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: x}\nspec:\n  source: file:x\n  replcas: 2\n",
     ["bad.yaml:6", "replcas", "replicas"]),
    ("apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: x}\nspec: {source: file:x, replicas: many}\n",
     ["bad.yaml:4", "replicas"]),
    ("apiVersion: pilotage.dev/v1alpha1\nkind: Route\nmetadata: {name: x}\nspec:\n  targets: [{model: nobody}]\n",
     ["bad.yaml", "nobody"]),
    ("a: [1,\n", ["bad.yaml:"]),
])
def test_bad_manifests_name_file_line_and_field(tmp_path, text, expected):
    (tmp_path / "bad.yaml").write_text(text)
    ended = cli("up", "-f", str(tmp_path / "bad.yaml"), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    assert ended.returncode != 0
    for part in expected:
        assert part in ended.stderr, ended.stderr


@pytest.mark.parametrize("content, expected", [(b"not a model at all", "GGUF"), (None, "truncated"), (b"", "empty")])
def test_wrong_weights(tmp_path, content, expected):
    path = tmp_path / "model.gguf"
    if content is None:
        real = cli("model", "pull", "--print-path", timeout=600).stdout.strip()
        content = open(real, "rb").read(5_000_000)
    path.write_bytes(content)
    ended = cli("engine", "--model", str(path), "--served-name", "tiny", "--listen", "127.0.0.1:0",
                env={"PILOTAGE_ENGINE_KEY": "x" * 32})
    assert ended.returncode not in (0, -6), ended
    assert expected.lower() in ended.stderr.lower() and str(path) in ended.stderr


def test_weights_that_are_not_there(tmp_path):
    (tmp_path / "m.yaml").write_text(MANIFEST % (tmp_path / "absent.gguf"))
    ended = cli("up", "-f", str(tmp_path / "m.yaml"), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
                "--data-dir", str(tmp_path / "data"))
    assert ended.returncode != 0 and "absent.gguf" in ended.stderr


def test_wrong_digest(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and so on")
    ended = cli("model", "pull", f"file:{path}", "--digest", "sha256:" + "0" * 64)
    assert ended.returncode != 0 and "0" * 64 in ended.stderr


def test_pull_is_quick_and_quiet_when_cached():
    first = cli("model", "pull", "--print-path", timeout=600)
    again = cli("model", "pull", "--print-path")
    assert first.stdout == again.stdout != ""
    assert json.loads(cli("model", "list", "-o", "json").stdout)


def test_status_for_people_and_machines(stack):
    data = str(stack.folder / "data")
    table = cli("status", "--data-dir", data)
    assert table.returncode == 0 and MODEL in table.stdout and stack.url in table.stdout
    assert json.loads(cli("status", "--data-dir", data, "-o", "json").stdout)["lanes"]
    nobody = cli("status", "--data-dir", data + "-elsewhere")
    assert nobody.returncode != 0 and "pilotage up" in nobody.stderr


def test_chat_answers_a_piped_question(stack):
    import subprocess
    from conftest import BINARY
    ended = subprocess.run([BINARY, "chat", "--url", stack.url, "--key", KEY, "--max-tokens", "12"], text=True,
                           input="What is the capital of France?\n", capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0 and ended.stdout.strip(), ended.stderr


def test_no_keys_only_on_loopback_and_by_flag(start):
    ended = cli("up", "--no-keys", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0")
    assert ended.returncode != 0 and "loopback" in ended.stderr
    stack = start("--no-keys").ready()
    assert http("GET", stack.url + "/v1/models")[0] == 200


def test_up_says_once_how_to_use_it(stack):
    said = (stack.folder / "up.out").read_text()
    assert said.count("curl ") == 1 and stack.url in said and MODEL in said


def test_the_shown_curl_line_works(stack):
    import subprocess
    said = (stack.folder / "up.out").read_text()
    line = said[said.index("curl "):].split("\n\n")[0].replace("\\\n", " ")
    ended = subprocess.run(["sh", "-c", line + " -sS"], capture_output=True, text=True, timeout=60, check=False)
    assert "chat.completion" in ended.stdout, ended


def test_help_teaches():
    for command in ([], ["up"], ["engine"], ["model"], ["model", "pull"], ["chat"], ["status"]):
        ended = cli(*command, "--help")
        assert ended.returncode == 0 and "Usage:" in ended.stdout
        assert "Examples:" in ended.stdout, command


def test_a_generated_key_is_kept(start, tmp_path):
    stack = start(env={"PILOTAGE_API_KEY": ""})
    key_file = stack.folder / "data" / "local.key"
    wait_for("the key", key_file.exists)
    stack.ready()
    assert key_file.stat().st_mode & 0o077 == 0
    assert stack.post("/v1/chat/completions", {
        "model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
        key=key_file.read_text().strip())[0] == 200
