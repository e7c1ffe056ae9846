"""Two regions, each a gateway with engines of its own, that send each other what they cannot take."""

import concurrent.futures
import hashlib
import json
import pathlib
import re
import subprocess

import pytest
from conftest import BINARY, Stack, free_port, http, wait_for

TEAM = "pk-team-0123456789abcdef0123456789abcdef"
RELAY = "pk-relay-0123456789abcdef0123456789abcde"

MANIFEST = """
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: m}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  health: {intervalSeconds: 1, timeoutSeconds: 1, failures: 2, successes: 1}
  endpoints:
    - {url: 'http://127.0.0.1:%(engine)d', region: %(own)s, parallel: 4}
    - {url: 'http://127.0.0.1:%(gateway)d', region: %(other)s, parallel: 16, gateway: true, keyFile: '%(key)s'}
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targets: [{model: m}]
  regions: [{name: %(own)s, networkMs: 1}, {name: %(other)s, networkMs: 10}]
  spillAfterSeconds: 1
---
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {name: team}
spec: {highestBand: standard, keys: [{name: k, sha256: %(team)s}]}
---
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {name: regions}
spec: {relay: true, keys: [{name: k, sha256: %(relay)s}]}
"""


class Region:
    """A gateway and its engine."""

    def __init__(self, folder, name, port):
        self.folder, self.name = pathlib.Path(folder) / name, name
        self.folder.mkdir()
        self.engine_port, self.port = free_port(), port
        self.engine = None

    def begin(self, other):
        self.other = other
        key = self.folder / "relay.key"
        key.write_text(RELAY)
        key.chmod(0o600)
        said = {"engine": self.engine_port, "own": self.name, "gateway": other.port, "other": other.name, "key": key,
                "team": hashlib.sha256(TEAM.encode()).hexdigest(), "relay": hashlib.sha256(RELAY.encode()).hexdigest()}
        manifest = self.folder / "models.yaml"
        manifest.write_text(MANIFEST % said)
        self.raise_engine()
        self.raise_gateway()

    def raise_engine(self):
        log = open(self.folder / "engine.log", "ab")
        self.engine = subprocess.Popen([BINARY, "bench", "engine", "--kind", "vllm", "--sequences", "4", "--decode", "10ms",
                                        "--port", str(self.engine_port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the engine", lambda: http("GET", f"http://127.0.0.1:{self.engine_port}/health")[0] == 200)

    def raise_gateway(self):
        folder = self.folder / "gateway"
        folder.mkdir()
        self.stack = Stack(folder, "-f", str(self.folder / "models.yaml"), port=self.port)

    def of(self, replica):
        return "engine" if replica.endswith(str(self.engine_port)) else "gateway"

    def replicas(self):
        """Whether its engine and the other gateway take work."""
        return {self.of(one["url"]): one["up"] for one in self.stack.status()["lanes"][0]["replicas"]}

    def in_flight(self, where):
        all = self.stack.status()["lanes"][0]["replicas"]
        return sum(one["in_flight"] for one in all if self.of(one["url"]) == where)

    def records(self, tenant=None):
        """What this gateway wrote down of requests that ended."""
        lines = [line for line in (self.stack.folder / "up.log").read_text().splitlines() if '"t_total_ms"' in line]
        records = [json.loads(line)["record"] for line in lines if line.endswith("}")]
        return [one for one in records if tenant in (None, one["tenant"])]

    def ask(self, tokens=4, headers=None, key=TEAM, content="hello"):
        body = {"model": "chat", "messages": [{"role": "user", "content": content}], "max_tokens": tokens}
        headers = {"Authorization": f"Bearer {key}", "x-pilotage-why": "1", **(headers or {})}
        status, headers, data = http("POST", self.stack.url + "/v1/chat/completions", body, headers, 120)
        return status, headers, json.loads(data)

    def went(self, **more):
        """`engine` or `gateway`: who answered."""
        status, headers, data = self.ask(**more)
        assert status == 200, data
        number = int(re.search(r"replica=(\d+)", headers["x-pilotage-why"]).group(1))
        ids = {one["id"]: self.of(one["url"]) for one in self.stack.status()["lanes"][0]["replicas"]}
        return ids[number]

    def stop(self):
        self.engine.kill()
        self.engine.wait()
        return self.stack.stop()


@pytest.fixture
def regions(tmp_path):
    pair = [Region(tmp_path, name, free_port()) for name in ("east", "west")]
    for region, other in zip(pair, reversed(pair)):
        region.begin(other)
    for region in pair:
        region.stack.ready()
        wait_for("both ways", lambda region=region: len(region.replicas()) == 2 and all(region.replicas().values()))
    yield pair
    for region in pair:
        region.stop()


def at_once(region, count, tokens):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(region.went, tokens=tokens, content=f"number {number}") for number in range(count)]
        return [one.result() for one in asked]


def test_a_region_is_preferred_until_it_is_full(regions):
    east, west = regions
    assert [east.went() for _ in range(8)] == ["engine"] * 8
    assert west.records() == []
    # Four at a time take two seconds each: who would wait longer than one goes to the other region.
    spilled = at_once(east, 16, 200)
    assert spilled.count("engine") >= 4 and spilled.count("gateway") >= 4, spilled
    # There they are the same tenant's, and nothing came back.
    wait_for("the other region's records", lambda: len(west.records()) == spilled.count("gateway"))
    assert all(one["tenant"] == "team" and west.of(one["replica"]) == "engine" for one in west.records())
    wait_for("its own records", lambda: len(east.records("team")) == len(east.records()) == 24)
    assert east.went() == "engine"


def test_nobody_but_a_relay_says_whose_a_request_is(regions):
    east, _ = regions
    asked = [
        (TEAM, "regions", "realtime", ("team", "standard")),
        (RELAY, "nobody", "realtime", ("regions", "realtime")),
        # A band more urgent than the tenant's highest is lowered in this region, too.
        (RELAY, "team", "realtime", ("team", "standard")),
        (RELAY, "team", "bulk", ("team", "bulk")),
    ]
    for key, said, band, expect in asked:
        before = len(east.records())
        assert east.ask(key=key, headers={"x-pilotage-tenant": said, "x-pilotage-band": band})[0] == 200
        record = wait_for("the record", lambda: east.records()[before:])[0]
        assert (record["tenant"], record["band"]) == expect, record


def test_requests_never_go_in_circles(regions):
    east, west = regions
    for region in regions:
        region.engine.kill()
        region.engine.wait()
    status, _, body = east.ask()
    assert status in (502, 503), body
    # What came from the one was not sent back by the other.
    record = wait_for("the record", east.records)[-1]
    assert record["attempts"] <= 3, record
    for one in west.records():
        assert one["replica"] is None or west.of(one["replica"]) == "engine", one
    assert len(east.records()) == 1, east.records()
    status, _, body = west.ask(key=RELAY, headers={"x-pilotage-tenant": "team", "x-pilotage-hops": "4"})
    assert status == 508, body
    for region in regions:
        region.raise_engine()
    wait_for("an answer", lambda: east.ask()[0] == 200)


def test_a_region_that_is_down_is_left_and_comes_back(regions):
    east, _ = regions
    # A stream is cut with its engine, and goes on in the other region.
    body = {"model": "chat", "messages": [{"role": "user", "content": "long"}], "max_tokens": 300, "stream": True}
    key = {"Authorization": f"Bearer {TEAM}"}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stream = pool.submit(http, "POST", east.stack.url + "/v1/chat/completions", body, key, 120)
        wait_for("the stream to run", lambda: east.in_flight("engine"))
        east.engine.kill()
        east.engine.wait()
        status, _, data = stream.result()
    text = data.decode()
    assert status == 200 and text.rstrip().endswith("data: [DONE]") and '"error"' not in text, text[-2000:]
    assert {east.went(content=f"away {number}") for number in range(8)} == {"gateway"}
    east.raise_engine()
    # It is back by and by: its part grows, and meanwhile every request is answered.
    wait_for("its own engine", lambda: east.went() == "engine")


def test_a_gateway_that_dies_leaves_its_requests_to_the_other_region(regions):
    east, west = regions
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(east.went, tokens=200, content=f"number {number}") for number in range(16)]
        wait_for("some to be in the west", lambda: west.in_flight("engine") >= 2)
        west.stack.process.kill()
        west.stack.process.wait()
        assert len([one.result() for one in asked]) == 16, "none is lost"
    assert east.went() == "engine"
