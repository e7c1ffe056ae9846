"""One `pilotage up` with the built-in model for the whole run, and helpers to talk to it.

PILOTAGE_BIN names the binary under test. Every wait here polls an observable condition with a
limit; nothing sleeps for a guessed time.
"""

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import openai
import pytest

BINARY = os.environ.get("PILOTAGE_BIN", "target/debug/pilotage")
KEY = "pk-test-0123456789abcdef0123456789abcdef"
MODEL = "smollm2"
# Fixtures of tests that want a cluster, or a browser.
pytest_plugins = ["cluster_kit", "console_kit"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, check, limit_s=120):
    """Polls `check` until it returns something true, or fails saying what was awaited."""
    end = time.monotonic() + limit_s
    last = None
    while time.monotonic() < end:
        try:
            last = check()
            if last:
                return last
        except OSError as error:
            last = error
        time.sleep(0.02)
    pytest.fail(f"waited {limit_s} s for {what}; last: {last!r}")


def http(method, url, body=None, headers=None, timeout=60):
    """Status, headers and body of one request; an error status is an answer, not an exception."""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    if data is not None and not request.has_header("Content-type"):
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class Stack:
    """A running `pilotage up`."""

    def __init__(self, folder, *args, env=None, port=None, files_max=None):
        self.folder = pathlib.Path(folder)
        self.port, self.admin_port = port or free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.log = open(self.folder / "up.log", "wb")
        self.out = open(self.folder / "up.out", "wb")
        # A shell sets the limit of open files, and becomes the program.
        limited = ["sh", "-c", f'ulimit -n {files_max} && exec "$@"', "sh"] if files_max else []
        self.process = subprocess.Popen(
            [*limited, BINARY, "up", "--listen", f"127.0.0.1:{self.port}", "--admin-listen",
             f"127.0.0.1:{self.admin_port}", "--data-dir", str(self.folder / "data"), *args],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.log,
            env={**os.environ, "PILOTAGE_API_KEY": KEY, **(env or {})},
        )

    def ready(self):
        def check():
            if self.process.poll() is not None:
                pytest.fail(f"`pilotage up` ended early:\n{self.said()}")
            return http("GET", f"{self.url}/health/ready")[0] == 200
        wait_for("the stack to be ready", check, 300)
        return self

    def said(self):
        return (self.folder / "up.out").read_text() + (self.folder / "up.log").read_text()

    def post(self, path, body, headers=None, key=KEY, timeout=60):
        headers = {"Authorization": f"Bearer {key}", **(headers or {})}
        status, headers, data = http("POST", self.url + path, body, headers, timeout)
        return status, json.loads(data), headers

    def status(self):
        key = (self.folder / "data" / "admin.key").read_text().strip()
        code, _, body = http("GET", self.admin_url + "/status", headers={"Authorization": f"Bearer {key}"})
        assert code == 200, body
        return json.loads(body)

    def engine_metrics(self):
        """All engines' samples, summed by metric name."""
        keys = [self.engine_key(pid) for pid in self.engine_pids()]
        sums = {}
        for lane in self.status()["lanes"]:
            for replica in lane["replicas"]:
                # Each engine has a key of its own, and refuses those of others.
                asked = [http("GET", replica["url"] + "/metrics", headers={"Authorization": f"Bearer {key}"}) for key in keys]
                bodies = [body for code, _, body in asked if code == 200]
                assert len(bodies) == 1, asked
                body = bodies[0]
                for line in body.decode().splitlines():
                    if line and not line.startswith("#"):
                        name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
                        sums[name] = sums.get(name, 0) + value
        return sums

    def engine_key(self, pid):
        variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return next(one.split(b"=", 1)[1].decode() for one in variables if one.startswith(b"PILOTAGE_ENGINE_KEY="))

    def engine_pids(self):
        found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
                               capture_output=True, text=True, check=False).stdout
        return [int(line.split()[0]) for line in found.splitlines() if " engine " in line]

    def client(self, **options):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0, timeout=120, **options)

    def stop(self, signal=2, limit_s=60):
        if self.process.poll() is None:
            self.process.send_signal(signal)
        code = self.process.wait(limit_s)
        self.log.close()
        self.out.close()
        return code


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    running = Stack(tmp_path_factory.mktemp("stack")).ready()
    yield running
    assert running.stop() == 0, running.said()


@pytest.fixture
def client(stack):
    return stack.client()


@pytest.fixture
def start(tmp_path):
    """Starts stacks of a test's own and stops them after it."""
    stacks = []

    def begin(*args, env=None):
        folder = tmp_path / f"stack{len(stacks)}"
        folder.mkdir()
        stacks.append(Stack(folder, *args, env=env))
        return stacks[-1]

    yield begin
    for each in stacks:
        each.process.kill()
        each.process.wait()


def cli(*args, env=None, timeout=120):
    """Runs the binary to its end."""
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, check=False)
