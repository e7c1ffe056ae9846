"""Every alert of the table fires on a running gateway that is brought into the state it is about, and none on one
that is well. Rules are the program's own with a sixtieth of their times, so that a minute is a second."""

import hashlib
import itertools
import json
import signal
import socket
import ssl
import threading
import time
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import KEY, Stack, free_port, http, wait_for
from prometheus_kit import Engines, Prometheus, alert_names, needs_prometheus

pytestmark = needs_prometheus

# Descriptors of the gateway that is to run short of them: it keeps 256, and lets in a client for every two others.
DESCRIPTORS = 1600
CLIENTS = (DESCRIPTORS - 256) // 2

# Of nobody, until February 2026, and the key that it is of: both are used nowhere else.
EXPIRED = (
    "MIIBajCCARGgAwIBAgIBAjAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9nYXRld2F5LmV4YW1wbGUwHhcNMjYwMTAxMDAwMDAwWhcNMjYwMjAxMDAwMDAwWjAa"
    "MRgwFgYDVQQDDA9nYXRld2F5LmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATySZiZL6vSillK5d2nC3EjdX2CBQthvN/L4BNdpa8gw+qVp+aL"
    "PziQQ/j/QMYnbWuiRkhaaOH94oDhWyiDcqt2o0gwRjAJBgNVHRMEAjAAMBoGA1UdEQQTMBGCD2dhdGV3YXkuZXhhbXBsZTAdBgNVHQ4EFgQUOp/3NReN3ifl"
    "mh7PF1sUr51sOKswCgYIKoZIzj0EAwIDRwAwRAIgSpsMuHl9rz/+w1hXMpS5PPAqmHlezrsq7MBfP5nqgccCICC8G31dyXMh3LRXPh3K7XrruT2itHmdbGBP"
    "3ocF/BwM")
EXPIRED_KEY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg9rgNasDKiOtOU3wCJUje8+Yi02FssjUGnuhDRFpcPBOhRANCAATySZiZL6vSillK5d2nC3Ej"
    "dX2CBQthvN/L4BNdpa8gw+qVp+aLPziQQ/j/QMYnbWuiRkhaaOH94oDhWyiDcqt2")


def model(name, endpoints, more=""):
    return (f"apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\n"
            f"spec:\n  dialect: vllm\n  servedModel: scripted\n  context: 1048576\n{more}  endpoints:\n"
            + "".join(f"  - {{url: 'http://127.0.0.1:{port}', parallel: {parallel}{rest}}}\n" for port, parallel, rest in endpoints))


def tenant(name, more, key=None):
    digest = hashlib.sha256((key or f"pk-alert-{name}").encode()).hexdigest()
    return (f"apiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n"
            f"spec: {{keys: [{{name: k, sha256: {digest}}}], {more}}}\n")


class Load:
    """Clients that each send one request after the other until the end."""

    def __init__(self):
        self.over = threading.Event()
        self.threads = []

    def also(self, does, *args):
        def run():
            while not self.over.is_set():
                try:
                    does(*args)
                except (OSError, HTTPException):
                    self.over.wait(0.2)
        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def send(self, stack, name, clients, key=KEY, pause_s=0.0, content="Hello", stream=True, tokens=16, deadline_ms=None):
        headers = {"Authorization": f"Bearer {key}"}
        if deadline_ms:
            headers["x-pilotage-deadline-ms"] = str(deadline_ms)
        body = json.dumps({"model": name, "stream": stream, "max_tokens": tokens,
                           "messages": [{"role": "user", "content": content}]}).encode()
        numbers = itertools.count()

        def ask():
            # Engines have what came before in their caches.
            fresh = body.replace(b"NUMBER", b"%d" % next(numbers)) if b"NUMBER" in body[:200] else body
            http("POST", stack.url + "/v1/chat/completions", fresh, headers, timeout=30)
            self.over.wait(pause_s)
        for _ in range(clients):
            self.also(ask)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(40)


class Cut:
    """A way to a port that breaks off each second, with what was under way."""

    def __init__(self, port):
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def carry(self, load):
        self.listener.settimeout(1)
        client, _ = self.listener.accept()
        server = socket.create_connection(("127.0.0.1", self.to), 5)
        ends = [threading.Thread(target=self.pump, args=pair, daemon=True) for pair in ((client, server), (server, client))]
        for end in ends:
            end.start()
        load.over.wait(1)
        for one in (client, server):
            one.close()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass


class Accelerators:
    """An exporter of DCGM's: an accelerator that is well, and one that reports new errors whenever it is asked, is hot
    (0x40: slowed by its hardware for its temperature) and full."""

    PAGE = """# TYPE DCGM_FI_DEV_XID_ERRORS gauge
DCGM_FI_DEV_XID_ERRORS{{gpu="0",UUID="GPU-well",modelName="NVIDIA H100 80GB HBM3"}} 0
DCGM_FI_DEV_XID_ERRORS{{gpu="1",UUID="GPU-ill",modelName="NVIDIA H100 80GB HBM3"}} {xid}
DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{gpu="0",UUID="GPU-well"}} 0
DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{gpu="1",UUID="GPU-ill"}} {asked}
DCGM_FI_DEV_CLOCKS_EVENT_REASONS{{gpu="0",UUID="GPU-well"}} 0
DCGM_FI_DEV_CLOCKS_EVENT_REASONS{{gpu="1",UUID="GPU-ill"}} 64
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="GPU-well"}} 40000
DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="GPU-well"}} 40000
DCGM_FI_DEV_FB_USED{{gpu="1",UUID="GPU-ill"}} 79900
DCGM_FI_DEV_FB_FREE{{gpu="1",UUID="GPU-ill"}} 100
"""

    def __init__(self):
        asked = itertools.count()

        class Exporter(BaseHTTPRequestHandler):
            def do_GET(self):
                number = next(asked)
                body = Accelerators.PAGE.format(xid=(79, 94)[number % 2], asked=number).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/metrics"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Lone:
    """A gateway with nothing to lean on: no database, no disk for its journal after its start, and a part of it damaged
    before; no collector of traces; a certificate of the past."""

    def __init__(self, folder):
        usage = folder / "data" / "usage"
        pem = lambda kind, text: f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n"
        (folder / "tls.crt").write_text(pem("CERTIFICATE", EXPIRED))
        (folder / "tls.key").write_text(pem("PRIVATE KEY", EXPIRED_KEY))
        (folder / "models.yaml").write_text(model("any", [(9, 2, "")]))
        self.trusting = ssl.create_default_context()
        self.trusting.check_hostname, self.trusting.verify_mode = False, ssl.CERT_NONE
        # A row that another run left to be stored, and then none that can be written.
        self.begin(folder)
        self.ask()
        self.stack.process.kill()
        self.stack.process.wait()
        (usage / "1-broken.segment").write_bytes(b"no segment at all" * 10)
        self.begin(folder)
        usage.rename(folder / "data" / "away")

    def begin(self, folder):
        self.stack = Stack(folder, "-f", str(folder / "models.yaml"), "--tls-cert", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key"), env={
            "DATABASE_URL": "postgres://nobody:nothing@127.0.0.1:9/usage", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1000"})
        wait_for("the gateway", lambda: http("GET", f"{self.stack.admin_url}/health/live")[0] == 200)
        key = (folder / "data" / "admin.key").read_text().strip()
        ledger = lambda: json.loads(http("GET", f"{self.stack.admin_url}/ledger", headers={"Authorization": f"Bearer {key}"})[2])
        # Nothing is to be stored at first.
        wait_for("the store to be missed", lambda: ledger()["behind_rows"] == 0 or not ledger()["store_up"])

    def ask(self):
        """One that fails, so that its trace is kept and its row is written."""
        client = HTTPSConnection("127.0.0.1", self.stack.port, timeout=30, context=self.trusting)
        client.request("POST", "/v1/chat/completions", json.dumps({"model": "any", "messages": [{"role": "user", "content": "?"}]}),
                       {"Authorization": f"Bearer {KEY}", "content-type": "application/json", "x-pilotage-deadline-ms": "500"})
        client.getresponse().read()
        client.close()
        time.sleep(0.2)


class Ill:
    """A gateway whose models each have something wrong with them, one that is itself at its limits, and one that has
    nothing to lean on."""

    def __init__(self, folder):
        self.folder, self.engines, self.load, self.held = folder, Engines(), Load(), []
        self.accelerators = Accelerators()
        start = self.engines.start
        quick = start("--chunks", "4")
        talk, mute = free_port(), free_port()
        self.cut = Cut(talk)
        stalling = start("--chunks", "100", "--chunk-gap", "20ms")
        self.stopped = self.engines.processes[-1]
        start("--kind", "vllm", "--kv-events-port", str(mute))  # which nobody asks, so that it publishes nothing
        talking = start("--kind", "vllm", "--decode", "2ms", "--kv-events-port", str(talk))
        failing = start("--fault", "crash-before-headers", count=6)
        now_and_then = ["--fault", "crash-before-headers", "--fault-probability", "0.18"]
        damaged = folder / "damaged.gguf"
        damaged.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 1000)
        models = [
            # Its process ends at its start, time and again.
            ("apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: unstarted}\n"
             f"spec: {{source: 'file:{damaged}', context: 2048}}\n"),
            model("away", [(9, 2, "")]),
            model("late", [(start("--chunks", "6", "--first-gap", "2200ms", "--chunk-gap", "220ms"), 64, "")]),
            model("broken", [(start("--fault", "crash-mid-stream", "--fault-probability", "0.4"), 4, "")], "  resume: 'off'\n"),
            model("corrupt", [(start("--fault", "finished-twice"), 4, "")]),
            model("stalling", [(stalling, 4, "")]),
            model("flapping", [(failing + at, 4, "") for at in range(6)] + [(quick, 4, "")]),
            model("retrying", [(start(*now_and_then, "--fault-seed", str(seed)), 4, "") for seed in (1, 2)]),
            model("growing", [(start("--first-gap", "900ms"), 1, "")]),
            model("uneven", [(start("--kind", "vllm", "--sequences", "1", "--prefill", "1us", "--step-tokens", "1000000", "--decode", "200ms",
                                    "--blocks", "100000"), 1, "")]),
            model("silent", [(quick, 4, f", kvEvents: {{url: 'tcp://127.0.0.1:{mute}'}}")]),
            model("losing", [(talking, 8, f", kvEvents: {{url: 'tcp://127.0.0.1:{self.cut.port}'}}")]),
            tenant("all", "weight: 1", KEY),
            tenant("limited", "quota: {requestsPerMinute: 3}"),
            tenant("large", "weight: 1"),
            tenant("small", "weight: 1"),
        ]
        self.many = self.begin("many", models, env={"PILOTAGE_DCGM_URL": self.accelerators.url()})
        (folder / "lone").mkdir()
        self.lone = Lone(folder / "lone")
        self.full = self.begin("full", [model("held", [(start("--first-gap", "290s", "--threads", "1"), 4096, "")]), model("big", [(quick, 4, "")])],
                               files_max=DESCRIPTORS)

    def begin(self, name, documents, files_max=None, env=None):
        folder = self.folder / name
        folder.mkdir()
        (folder / "models.yaml").write_text("---\n".join(documents))
        stack = Stack(folder, "-f", str(folder / "models.yaml"), files_max=files_max, env=env)
        wait_for("the gateway", lambda: http("GET", f"{stack.url}/health/live")[0] == 200)
        return stack

    def trouble(self):
        """All that is wrong begins."""
        send, load = self.load.send, self.load
        send(self.many, "away", 6, deadline_ms=500)
        send(self.many, "unstarted", 2)
        send(self.many, "late", 24)
        send(self.many, "broken", 2, pause_s=0.3)
        send(self.many, "corrupt", 1, pause_s=0.5)
        send(self.many, "stalling", 2)
        send(self.many, "flapping", 6, pause_s=0.05)
        send(self.many, "retrying", 3, pause_s=0.1)
        send(self.many, "silent", 1, pause_s=0.5)
        send(self.many, "losing", 2, pause_s=0.05, content="NUMBER of many words for many blocks. " * 40, tokens=40)
        send(self.many, "silent", 1, key="pk-alert-limited", pause_s=0.3)
        # One that sends so much at once is far ahead of one that sends little, whose turns are all the next ones. Whoever
        # comes begins where those are who wait, so that those who send little have to be there first.
        send(self.many, "uneven", 3, key="pk-alert-small", tokens=4)
        queued = lambda name: next(lane["queue"]["requests"] for lane in self.many.status()["lanes"] if lane["name"] == name)
        wait_for("those who send little", lambda: queued("uneven") > 0)
        for _ in range(2):
            # Not at once, so that one waits when the other's client has waited long enough.
            send(self.many, "uneven", 1, key="pk-alert-large", content="NUMBER " + "x " * 700_000, tokens=4)
            time.sleep(5)
        load.also(self.lone.ask)
        load.also(self.cut.carry, load)
        load.also(self.stop_and_go)
        load.also(self.grow)
        send(self.full, "big", 2, content="Many words. " * 1_500_000, stream=False, pause_s=0.3)
        self.hold()

    def stop_and_go(self):
        self.stopped.send_signal(signal.SIGSTOP)
        self.load.over.wait(0.8)
        self.stopped.send_signal(signal.SIGCONT)
        self.load.over.wait(0.6)

    def grow(self):
        """One client more all the time: the queue grows as if more came than go."""
        if len(self.load.threads) < 150:
            self.load.send(self.many, "growing", 1)
        self.load.over.wait(0.7)

    def hold(self):
        """As many requests as are let in, all of which wait for an engine that takes its time."""
        body = b'{"model":"held","stream":true,"messages":[{"role":"user","content":"?"}]}'
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode()
        # Those that send large bodies want to be let in, too.
        for _ in range(CLIENTS - 8):
            client = socket.create_connection(("127.0.0.1", self.full.port), 30)
            client.sendall(head + body)
            self.held.append(client)

    def stop(self):
        self.load.over.set()
        self.stopped.send_signal(signal.SIGCONT)
        for client in self.held:
            client.close()
        for stack in (self.many, self.full, self.lone.stack):
            stack.process.kill()
            stack.process.wait()
        self.load.stop()
        self.engines.stop()
        self.accelerators.stop()


@pytest.fixture(scope="module")
def well(tmp_path_factory):
    """A gateway that does what it is asked, and has a model that nobody asks."""
    folder = tmp_path_factory.mktemp("well")
    engines, load = Engines(), Load()
    port = engines.start("--kind", "vllm", "--decode", "5ms", count=2)
    manifest = folder / "models.yaml"
    manifest.write_text("---\n".join([model("asked", [(port, 8, "")]), model("idle", [(port + 1, 8, "")])]))
    stack = Stack(folder, "-f", str(manifest)).ready()
    prometheus = Prometheus(folder / "prometheus", [stack], [port, port + 1])
    wait_for("the gateway to be seen", lambda: prometheus.query("pilotage_build_info"), 60)
    # Until then there was none, as far as Prometheus knew.
    prometheus.since = time.monotonic() + 3
    # Enough that one moment in which the machine has no time for it is a small part of what it does.
    load.send(stack, "asked", 4, pause_s=0.1, tokens=40)
    yield prometheus
    load.stop()
    prometheus.stop()
    stack.stop()
    engines.stop()


@pytest.fixture(scope="module")
def ill(tmp_path_factory, well):
    folder = tmp_path_factory.mktemp("ill")
    site = Ill(folder)
    # Counters are seen before they count.
    site.watching = {native: Prometheus(folder / f"native-{native}", [site.many, site.full, site.lone.stack], native=native) for native in (False, True)}
    for prometheus in site.watching.values():
        wait_for("gateways to be seen", lambda p=prometheus: len(p.query("pilotage_build_info")) == 3, 60)
        prometheus.since = time.monotonic() + 3
    site.trouble()
    yield site
    site.stop()
    for prometheus in site.watching.values():
        prometheus.stop()


@pytest.mark.parametrize("native", [False, True])
def test_every_alert_fires_on_a_gateway_in_its_trouble(ill, native):
    prometheus = ill.watching[native]
    expected = set(alert_names()) - {"PilotageGatewayAway"}
    fired = set()

    def all_of_them():
        # What came and went again counts, too: those that are asked second may find it over.
        fired.update(name for name, _ in prometheus.ever())
        return fired >= expected

    try:
        wait_for("all alerts", all_of_them, 100)
    except pytest.fail.Exception:
        pytest.fail(f"silent: {sorted(expected - fired)}; pending: {prometheus.ever('pending')}")
    assert "PilotageGatewayAway" not in {name for name, _ in prometheus.ever(within_s=int(time.monotonic() - prometheus.since))}
    about = dict((name, set()) for name, _ in prometheus.ever())
    for name, lane in prometheus.ever():
        about[name].add(lane)
    # Each is about what it should be about, and not about a neighbour.
    assert about["PilotageModelHasNoReplica"] == {"unstarted"}
    assert about["PilotageAnswersCorrupted"] == {"corrupt"}
    assert about["PilotageStreamsBreakOff"] == {"broken"}
    assert about["PilotageKvEventsSilent"] == {"silent"} and "losing" in about["PilotageKvEventsLost"]
    assert about["PilotageTenantLimited"] == {"limited"}
    assert about["PilotageServiceUneven"] == {"uneven"}
    assert "stalling" in about["PilotageStreamsStall"] and "growing" in about["PilotageQueueGrows"]
    assert "late" in about["PilotageFirstTokenLateFast"] & about["PilotageTokensSlowFast"]
    gpus = prometheus.query('count_over_time(ALERTS{alertname=~"PilotageGpu.*",alertstate="firing"}[10m])')
    assert {one["metric"]["uuid"] for one in gpus} == {"GPU-ill"}
    lone = {f"127.0.0.1:{ill.lone.stack.admin_port}"}
    for name in ["PilotageUsageNotStored", "PilotageUsageNotWritten", "PilotageUsageLost", "PilotageTracesLost", "PilotageCertificateExpires"]:
        assert about[name] == lone, (name, about[name])
    assert about["PilotageGatewayDescriptorsShort"] == {f"127.0.0.1:{ill.full.admin_port}"}


def test_none_fires_on_a_gateway_with_nothing_wrong(well, ill):
    # An hour of the rules, beside all the trouble of the other gateway on the same machine.
    wait_for("an hour", lambda: float((well.query("count_over_time(pilotage_build_info[10m])") or [{"value": [0, 0]}])[0]["value"][1]) >= 60, 120)
    assert well.query('sum(increase(pilotage_requests_total{lane="asked",termination="ok"}[60s]))')[0]["value"][1] != "0"
    assert well.ever(within_s=int(time.monotonic() - well.since)) == []


def test_that_no_gateway_is_left_is_noticed(ill):
    for stack in (ill.many, ill.full, ill.lone.stack):
        stack.process.kill()
        stack.process.wait()
    for prometheus in ill.watching.values():
        wait_for("the alert", lambda p=prometheus: "PilotageGatewayAway" in p.firing(), 60)
