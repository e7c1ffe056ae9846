"""A model on trial that is worse takes itself back; one that is not is promoted."""

import os
import signal
import threading

import pytest
from conftest import KEY, Stack, cli, http, wait_for

ROUTE = """---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  models: [chat]
  targets: [{model: stable}]
  timeouts: {firstTokenSeconds: 2}
  retries: {attemptsMax: 1}
  canary:
    model: next
    steps: [{weight: 50, minutes: %(minutes)s, samplesMin: %(samples)s}]
"""


def manifest(path, minutes, samples):
    """The built-in model twice, the second on trial."""
    model = next(part for part in cli("up", "--print").stdout.split("---\n") if "kind: Model" in part)
    name = next(line for line in model.splitlines() if "name:" in line)
    names = [name.split("name:")[0] + "name: " + new for new in ("stable", "next")]
    small = model.replace("parallel: 8", "parallel: 4").replace("context: 2048", "context: 256")
    models = [small.replace(name, new) for new in names]
    path.write_text("---\n".join([*models, (ROUTE % {"minutes": minutes, "samples": samples})[4:]]))


@pytest.fixture
def trial(tmp_path):
    """A stack with a canary whose step asks for that much."""
    stacks = []

    def begin(minutes, samples):
        file = tmp_path / "trial.yaml"
        manifest(file, minutes, samples)
        folder = tmp_path / f"stack-{len(stacks)}"
        folder.mkdir()
        stacks.append(Stack(folder, "-f", str(file)).ready())
        return stacks[-1]

    yield begin
    for stack in stacks:
        assert stack.stop() == 0, stack.said()


def ask(stack, number):
    body = {"model": "chat", "messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": 2, "stream": True}
    key = {"Authorization": f"Bearer {KEY}"}
    status, _, _ = http("POST", stack.url + "/v1/chat/completions", body, key, 60)
    return status


def canary(stack):
    return next(route for route in stack.status()["routes"] if route["name"] == "chat")["canary"]


def test_a_canary_that_hangs_is_rolled_back_by_itself(trial):
    stack = trial(60, 1000)
    assert canary(stack)["verdict"] == "continue"
    pid = stack.status()["processes"]["next-0"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        # Nobody notices but by waiting: what the canary does not answer, the others do.
        for number in range(60):
            assert ask(stack, number) == 200
            if canary(stack)["verdict"] == "rollback":
                break
    finally:
        os.kill(pid, signal.SIGCONT)
    told = canary(stack)
    assert told["verdict"] == "rollback" and told["percent"] == 0, told
    assert "rolled back" in stack.said()
    before = requests(stack, "next")
    assert all(ask(stack, number) == 200 for number in range(8))
    assert requests(stack, "next") == before, "it gets nothing any more"


def requests(stack, model):
    route = next(route for route in stack.status()["routes"] if route["name"] == "chat")
    return sum(arm["requests"] for arm in route["arms"] if arm["model"] == model)


def test_a_canary_that_is_no_worse_is_promoted(trial):
    stack = trial(0, 40)
    judged = threading.Event()

    def load():
        number = 0
        while not judged.is_set():
            ask(stack, number)
            number += 1

    # On a busy machine equal models may look unequal for a while: more requests show that they are not.
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        told = wait_for("the promotion", lambda: canary(stack)["verdict"] == "promote" and canary(stack))
    finally:
        judged.set()
        for thread in threads:
            thread.join()
    assert told["percent"] == 100, told
