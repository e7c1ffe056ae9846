"""Copies of a model that follow its load on one machine: none while nobody asks, the first one for the
first request, more for many, and nothing lost on the way."""

import json
import threading

import pytest
from conftest import KEY, MODEL, Stack, cli, http, wait_for


@pytest.fixture
def resting(tmp_path):
    """A stack whose model has no copy until somebody asks, and two at most."""
    file = tmp_path / "scaled.yaml"
    scaling = "  scaling: {min: 0, max: 2, zero: cold, idleSeconds: 5}\n"
    spec = f"  context: 512\n  threads: 1\n  parallel: 1\n{scaling}"
    file.write_text(cli("up", "--print").stdout.replace("parallel: 8", "").replace("  context: 2048\n", spec))
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
    many = [threading.Thread(target=lambda at=at: answers.append(ask(stack, 150, at % 2 == 1))) for at in range(24)]
    for one in many:
        one.start()
    wait_for("a second copy", lambda: processes(stack).get(f"{MODEL}-1") == "ready", 240)
    # It goes as it came, also while the second one is on its way out.
    for one in many:
        one.join(300)
    assert sorted(answers, key=str) == [(200, 150)] * 12 + [(200, True)] * 12
    wait_for("nothing to run", lambda: processes(stack) == {}, 240)
    assert stack.status()["ready"] is True
    # Asked again, it is there again.
    assert ask(stack, 3, True) == (200, True)
    assert "replica" not in stack.said() or "a process died" not in stack.said()


def test_what_the_gateway_sees_is_told(resting):
    stack = resting
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    assert http("GET", stack.admin_url + "/scaling")[0] == 401
    code, _, body = http("GET", stack.admin_url + "/scaling", headers={"Authorization": f"Bearer {key}"})
    told = json.loads(body)
    assert code == 200 and told["gateway"].startswith("gateway-")
    model = told["models"][MODEL]
    assert model["waiting"]["whole"] is True and model["replicas"]["value"] == {}
