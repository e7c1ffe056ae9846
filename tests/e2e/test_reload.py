"""Manifests that change under way: what is answered meanwhile goes on, and a mistake changes nothing."""

import signal
import socket
import subprocess
import threading

import pytest
from conftest import KEY, MODEL, Stack, cli, wait_for


@pytest.fixture
def live(tmp_path):
    """A stack with a manifest that can be rewritten: context and replicas."""
    file = tmp_path / "live.yaml"
    built_in = cli("up", "--print").stdout.replace("parallel: 8", "parallel: 2")

    def write(context, replicas, more=""):
        spec = f"  context: {context}\n  threads: 1\n  replicas: {replicas}\n{more}"
        file.write_text(built_in.replace("  context: 2048\n", spec))

    write(512, 1)
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack(folder, "-f", str(file)).ready()
    yield stack, write
    assert stack.stop() == 0, stack.said()


def ask(stack, tokens):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Count."}], "max_tokens": tokens, "ignore_eos": True}
    status, answer, _ = stack.post("/v1/chat/completions", body, key=KEY, timeout=240)
    return status, answer.get("usage", {}).get("completion_tokens")


def test_processes_are_replaced_under_a_running_answer(live):
    stack, write = live
    answers = []
    long = threading.Thread(target=lambda: answers.append(ask(stack, 300)))
    long.start()
    wait_for("the answer to begin", lambda: stack.status()["lanes"][0]["replicas"][0]["in_flight"] == 1)
    write(1024, 2)
    stack.process.send_signal(signal.SIGHUP)
    wait_for("the new processes", lambda: {"smollm2-0.2", "smollm2-1"} == {
        name for name, state in stack.status()["processes"].items() if state["phase"] == "ready"})
    wait_for("the old one to go", lambda: "smollm2-0" not in stack.status()["processes"])
    long.join(240)
    assert answers == [(200, 300)]
    assert ask(stack, 3) == (200, 3)
    assert stack.status()["config"]["generation"] == 2


def test_a_mistake_changes_nothing_and_is_told(live):
    stack, write = live
    write(512, 1, more="  bogus: 1\n")
    stack.process.send_signal(signal.SIGHUP)
    config = wait_for("the mistake", lambda: stack.status()["config"]["error"] and stack.status()["config"])
    assert config["generation"] == 1 and "spec.bogus" in config["error"]
    shown = cli("status", "--data-dir", str(stack.folder / "data")).stdout
    assert "not taken over" in shown and "spec.bogus" in shown
    assert ask(stack, 3) == (200, 3)
    write(512, 1)
    stack.process.send_signal(signal.SIGHUP)
    wait_for("the remedy", lambda: stack.status()["config"]["error"] is None)


def test_a_signal_while_weights_are_fetched_ends_nothing(tmp_path):
    manifest = tmp_path / "model.yaml"
    manifest.write_text("apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\n"
                        "spec: {source: 'hf:owner/name@main/m.gguf'}\n")
    # A hub that takes connections, and never answers.
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(60)
        env = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        stack = Stack(tmp_path, "-f", str(manifest), env=env)
        connection, _ = hub.accept()
        with connection:
            stack.process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                stack.process.wait(2)
            assert stack.stop() == 0, stack.said()
