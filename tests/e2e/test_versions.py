"""A Model's new version proves itself beside the one that serves, under load, and no request is lost by it."""

import json
import os
import signal
import threading

import pytest
from conftest import KEY, Stack, cli, http, wait_for

UPDATES = """
  replicas: 1
  threads: 1
  startSeconds: %(start)s
  updates:
    surge: 1
    canary:
      steps: [{weight: 50, minutes: %(minutes)s, samplesMin: %(samples)s}]
      tolerance: {ttftPercent: 1000, tpotPercent: 1000}
"""

ROUTE = """---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  models: [chat]
  targets: [{model: smollm2}]
"""

# Who hangs with a stream is left after a time that a busy machine needs for no answer.
HASTE = """  timeouts: {firstTokenSeconds: 10}
  retries: {attemptsMax: 1}
"""


class Rig:
    """A stack with a manifest that can be rewritten, and clients that ask all the time."""

    def __init__(self, folder, minutes, samples, start_seconds=120, route=ROUTE):
        self.folder, self.file = folder, folder / "models.yaml"
        self.updates = UPDATES[1:] % {"minutes": minutes, "samples": samples, "start": start_seconds}
        self.route = route
        self.over, self.wrong, self.done, self.threads = threading.Event(), [], 0, []
        self.write(512)
        self.stack = self.begin()

    def begin(self):
        folder = self.folder / "stack"
        folder.mkdir(exist_ok=True)
        return Stack(folder, "-f", str(self.file)).ready()

    def write(self, context, weights=None):
        """The built-in model; another context, or other weights, are another version."""
        model = next(part for part in cli("up", "--print").stdout.split("---\n") if "kind: Model" in part)
        model = model.replace("parallel: 8", "parallel: 2").replace("  context: 2048\n", f"  context: {context}\n{self.updates}")
        if weights:
            lines = [line for line in model.splitlines(keepends=True) if not line.startswith(("  digest:", "  sizeBytes:"))]
            model = "".join(f"  source: file:{weights}\n" if line.startswith("  source:") else line for line in lines)
        self.file.write_text(model + self.route)

    def change(self, *args):
        self.write(*args)
        self.stack.process.send_signal(signal.SIGHUP)

    def status(self):
        return self.stack.status()

    def version(self):
        return self.status()["versions"]["smollm2"]

    def phase(self):
        return (self.version()["next"] or {}).get("phase")

    def processes(self):
        return {name: state["phase"] for name, state in self.status()["processes"].items()}

    def load(self, clients=4, streams=1):
        """Of the answers of each client every second one is a stream, or all of them."""
        self.over.clear()
        self.threads = [threading.Thread(target=self.ask, args=(number, streams)) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, number, streams):
        turn = 0
        while not self.over.is_set():
            turn += 1
            stream = (turn + number) % 2 < streams
            body = {"model": "chat", "messages": [{"role": "user", "content": f"Say {number}-{turn}."}],
                    "max_tokens": 4, "ignore_eos": True, "stream": stream}
            key = {"Authorization": f"Bearer {KEY}"}
            try:
                status, _, answer = http("POST", self.stack.url + "/v1/chat/completions", body, key, 120)
                whole = b"[DONE]" in answer if stream else json.loads(answer)["usage"]["completion_tokens"] == 4
                found = (status, whole)
            except OSError as error:
                found = repr(error)
            self.done += 1
            if found != (200, True):
                self.wrong.append((number, turn, stream, found))

    def rest(self):
        self.over.set()
        for thread in self.threads:
            thread.join(120)
        assert not self.wrong, (self.wrong[:5], self.stack.said()[-3000:])
        assert self.done > 0


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def begin(*args, **options):
        rigs.append(Rig(tmp_path, *args, **options))
        return rigs[-1]

    yield begin
    for each in rigs:
        each.over.set()
        each.stack.process.kill()
        each.stack.process.wait()


def test_a_version_that_does_well_takes_over_under_load(rig):
    rig = rig(0, 20)
    assert rig.version()["next"] is None and rig.processes() == {"smollm2-0": "ready"}
    serving = rig.version()["serving"]
    rig.load()
    rig.change(256)
    wait_for("the trial", lambda: rig.phase() == "Trying")
    pid = next(state["pid"] for name, state in rig.status()["processes"].items() if name.startswith("smollm2+"))
    wait_for("the new version to serve", lambda: rig.version()["next"] is None and rig.version()["serving"] != serving)
    wait_for("the old one to go", lambda: list(rig.processes().values()) == ["ready"])
    rig.rest()
    (name, state), = rig.status()["processes"].items()
    assert name == f"smollm2+{rig.version()['serving']}-0" and state["pid"] == pid, "it is the one that proved itself"
    wait_for("its lane to go", lambda: [lane["name"] for lane in rig.status()["lanes"]] == ["smollm2"])
    assert rig.stack.stop() == 0, rig.stack.said()
    # Another start goes on with it.
    rig.stack = rig.begin()
    assert rig.processes() == {name: "ready"}
    assert rig.stack.stop() == 0, rig.stack.said()


def test_a_version_that_never_comes_up_is_taken_back(rig):
    rig = rig(0, 20, 20)
    rig.load()
    weights = rig.folder / "broken.gguf"
    weights.write_bytes(b"these are no weights")
    rig.change(512, weights)
    wait_for("it to be taken back", lambda: rig.phase() == "RolledBack")
    told = rig.version()["next"]["message"]
    assert told.startswith("it did not come up in 20 s: ") and "GGUF" in told, told
    wait_for("its processes to go", lambda: rig.processes() == {"smollm2-0": "ready"})
    rig.rest()
    rig.change(512)
    wait_for("nothing else to be wanted", lambda: rig.version()["next"] is None)
    assert rig.processes() == {"smollm2-0": "ready"}
    assert rig.stack.stop() == 0, rig.stack.said()


def test_a_version_that_is_worse_is_taken_back_and_a_trial_survives_a_restart(rig):
    rig = rig(60, 1000, route=ROUTE + HASTE)
    rig.change(256)
    wait_for("the trial", lambda: rig.phase() == "Trying")
    name = next(name for name in rig.processes() if name.startswith("smollm2+"))
    assert rig.stack.stop() == 0, rig.stack.said()
    rig.stack = rig.begin()
    wait_for("both to be there again", lambda: rig.processes() == {"smollm2-0": "ready", name: "ready"})
    assert rig.phase() == "Trying"
    wait_for("it to get requests again", lambda: rig.version()["next"]["percentMax"] == 100)
    # It hangs: what it does not answer, the other one does.
    pid = rig.status()["processes"][name]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        rig.load(1, streams=2)
        wait_for("it to be taken back", lambda: rig.phase() == "RolledBack", 240)
    finally:
        os.kill(pid, signal.SIGCONT)
    rig.rest()
    wait_for("it to go", lambda: rig.processes() == {"smollm2-0": "ready"})
    assert "rolled back" in rig.version()["next"]["message"]
    assert rig.stack.stop() == 0, rig.stack.said()
