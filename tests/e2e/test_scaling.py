"""Copies of a model that follow its load on one machine: none while nobody asks, the first one for the
first request, more for many, and nothing lost on the way."""

import json
import signal
import sys
import textwrap
import threading

import pytest
from conftest import KEY, MODEL, Stack, cli, http, wait_for

# A program that is called as vLLM is, answers as it does, and can sleep. It fails where it is asked
# for an answer while it sleeps. It does not start before there is a file at GATE, where one is named.
VLLM = """
    import http.server, json, os, sys, time

    def flag(name):
        return sys.argv[sys.argv.index(name) + 1]

    asleep = False
    assert ("--enable-sleep-mode" in sys.argv) == (os.environ.get("VLLM_SERVER_DEV_MODE") == "1")
    while not os.path.exists(os.environ.get("GATE", "/")):
        time.sleep(0.02)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            print(self.command, self.path, flush=True)

        def say(self, status, body):
            body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            if self.path == "/is_sleeping":
                return self.say(200, {"is_sleeping": asleep})
            if self.path == "/v1/models":
                return self.say(200, {"data": [{"id": flag("--served-model-name")}]})
            self.say(200 if self.path == "/health" else 404, {})

        def do_POST(self):
            global asleep
            self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path in ("/sleep?level=1", "/wake_up"):
                asleep = self.path != "/wake_up"
                return self.say(200, {})
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            message = {"role": "assistant", "content": "awake"}
            choice = {"index": 0, "message": message, "text": "awake", "finish_reason": "stop"}
            self.say(500 if asleep else 200, {"choices": [choice], "usage": usage})

    at = (flag("--host"), int(flag("--port")))
    http.server.ThreadingHTTPServer(at, Handler).serve_forever()
"""


@pytest.fixture
def resting(tmp_path):
    """A stack whose model has no copy until somebody asks, and two at most."""
    file = tmp_path / "scaled.yaml"
    scaling = "  scaling: {min: 0, max: 2, zero: cold, idleSeconds: 5}\n"
    spec = f"  context: 512\n  threads: 1\n  parallel: 1\n{scaling}"
    built_in = cli("up", "--print").stdout.replace("  parallel: 8\n", "").replace("  context: 2048\n", spec)
    target = f"    - model: {MODEL}\n"
    assert spec in built_in and target in built_in
    file.write_text(built_in.replace(target, target + "  timeouts: {queueSeconds: 600}\n"))
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(folder, "-f", str(file)).ready()
    yield stack
    assert stack.stop() == 0, stack.said()


def ask(stack, tokens, stream=False):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Count."}], "max_tokens": tokens,
            "ignore_eos": True, "stream": stream}
    if not stream:
        status, answer, _ = stack.post("/v1/chat/completions", body, timeout=300)
        return status, answer.get("usage", {}).get("completion_tokens")
    status, _, data = http("POST", stack.url + "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}"}, 300)
    return status, data.decode().rstrip().endswith("data: [DONE]")


def processes(stack):
    """Phases of the processes, by name."""
    return {name: state["phase"] for name, state in stack.status()["processes"].items()}


def test_copies_follow_the_load(resting):
    stack = resting
    assert processes(stack) == {}
    assert stack.status()["ready"] is True, "a model that rests is ready"
    code, _, listed = http("GET", stack.url + "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    assert code == 200 and MODEL in listed.decode()
    # The first request starts it and is answered.
    assert ask(stack, 3) == (200, 3)
    assert processes(stack) == {f"{MODEL}-0": "ready"}
    shown = stack.status()["scaling"][MODEL]
    assert shown["awake"] == 1 and shown["why"], shown
    table = cli("status", "--data-dir", str(stack.folder / "data")).stdout
    assert "WANTED" in table and "awake" in table, table
    # Many at once bring a second copy, and each of them is answered.
    answers = []
    many = [threading.Thread(target=lambda at=at: answers.append(ask(stack, 60, at % 2 == 1))) for at in range(20)]
    for one in many:
        one.start()
    wait_for("a second copy", lambda: processes(stack).get(f"{MODEL}-1") == "ready", 240)
    for one in many:
        one.join(300)
    assert sorted(answers, key=str) == [(200, 60)] * 10 + [(200, True)] * 10
    wait_for("nothing to run", lambda: processes(stack) == {}, 240)
    assert stack.status()["ready"] is True
    # Asked again, it is there again.
    assert ask(stack, 3, True) == (200, True)
    assert "a process died" not in stack.said()


def test_what_the_gateway_sees_is_told(resting):
    stack = resting
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    assert http("GET", stack.admin_url + "/scaling")[0] == 401
    code, _, body = http("GET", stack.admin_url + "/scaling", headers={"Authorization": f"Bearer {key}"})
    told = json.loads(body)
    assert code == 200 and told["gateway"].startswith("gateway-")
    model = told["models"][MODEL]
    assert model["waiting"]["whole"] is True and model["replicas"]["value"] == {}


class Big:
    """A Model whose program is the one above."""

    def __init__(self, folder):
        self.program, self.weights, self.manifest = folder / "vllm", folder / "weights", folder / "big.yaml"
        self.gate = folder / "gate"
        self.program.write_text(f"#!{sys.executable}\n" + textwrap.dedent(VLLM))
        self.program.chmod(0o755)
        self.weights.mkdir()
        (self.weights / "config.json").write_text("{}")
        (self.weights / "model.safetensors").write_bytes(b"")

    def say(self, scaling, waits=False, more=""):
        gate = f", runtimeEnv: {{GATE: '{self.gate}'}}" if waits else ""
        self.manifest.write_text(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: big}\n"
            f"spec: {{source: 'file:{self.weights}/', runtime: vllm, runtimePath: '{self.program}', "
            f"scaling: {scaling}{gate}{more}}}\n")
        return str(self.manifest)


def answered(stack):
    body = {"model": "big", "messages": [{"role": "user", "content": "Hi"}]}
    status, answer, _ = stack.post("/v1/chat/completions", body)
    return status, answer["choices"][0]["message"]["content"]


def test_the_last_copy_sleeps(tmp_path, start):
    big = Big(tmp_path)
    stack = start("-f", big.say("{max: 1, zero: warm, idleSeconds: 2}")).ready()
    log = stack.folder / "data" / "logs" / "big-0.log"
    assert answered(stack) == (200, "awake")
    for asked in range(1, 3):
        wait_for("it to sleep", lambda: stack.status()["scaling"]["big"]["asleep"] == 1
                 and log.read_text().count("POST /sleep?level=1") == asked)
        assert stack.status()["ready"] is True
        assert answered(stack) == (200, "awake")
        assert log.read_text().count("POST /wake_up") == asked
    assert stack.status()["processes"]["big-0"]["starts"] == 1, stack.said()
    assert stack.stop() == 0, stack.said()


def test_one_that_sleeps_wakes_while_a_new_version_is_tried_out(tmp_path, start):
    big, scaling = Big(tmp_path), "{max: 1, zero: warm, idleSeconds: 2}"
    canary = ", updates: {canary: {steps: [{weight: 5}]}}"
    stack = start("-f", big.say(scaling, more=canary)).ready()
    log = stack.folder / "data" / "logs" / "big-0.log"
    wait_for("it to sleep", lambda: "POST /sleep?level=1" in log.read_text())
    big.say(scaling, waits=True, more=canary)
    stack.process.send_signal(signal.SIGHUP)

    def phase():
        following = stack.status()["versions"]["big"]["next"]
        return following and following["phase"]

    wait_for("the new version to begin", lambda: phase() == "Starting")
    assert answered(stack) == (200, "awake")
    assert log.read_text().count("POST /wake_up") == 1
    big.gate.touch()
    wait_for("the new version to be tried out", lambda: phase() == "Trying")
    assert [answered(stack) for _ in range(8)] == [(200, "awake")] * 8
    assert stack.stop() == 0, stack.said()


def test_who_waits_for_the_first_copy_is_answered_before_the_end(tmp_path, start):
    big = Big(tmp_path)
    stack = start("-f", big.say("{min: 0, max: 1, zero: cold}", waits=True)).ready()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(answered(stack)))
    asking.start()
    wait_for("it to be started", lambda: processes(stack).get("big-0") == "starting")
    stack.process.send_signal(signal.SIGTERM)
    wait_for("the end to begin", lambda: "finishing what runs" in stack.said())
    big.gate.touch()
    asking.join(60)
    assert answers == [(200, "awake")], stack.said()
    assert stack.process.wait(60) == 0, stack.said()
