"""`pilotage triage` reads results of benchmarks, looks at a running gateway, asks Prometheus: and says what limits a
server and which flag lifts it."""

import contextlib
import hashlib
import heapq
import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import BINARY, Stack, cli, free_port, http as ask, wait_for

PREFILL, STEP, INPUT, OUTPUT = 0.035, 0.018, 512, 128


def result(path, rate, slots=4, requests=200):
    """What vLLM would write of a server that computes so many sequences at once and has the others wait."""
    free, ttfts, starts = [0.0] * slots, [], []
    heapq.heapify(free)
    for number in range(requests):
        came = number / rate
        begins = max(came, heapq.heappop(free))
        starts.append(came)
        ttfts.append(begins + PREFILL - came)
        heapq.heappush(free, begins + PREFILL + STEP * (OUTPUT - 1))
    duration = max(free)
    path.write_text(json.dumps({
        "request_rate": rate, "duration": duration, "completed": requests, "failed": 0,
        "total_input_tokens": requests * INPUT, "total_output_tokens": requests * OUTPUT,
        "mean_ttft_ms": sum(ttfts) / requests * 1e3, "mean_tpot_ms": STEP * 1e3,
        "ttfts": ttfts, "itls": [[STEP] * (OUTPUT - 1)] * requests, "start_times": starts,
        "input_lens": [INPUT] * requests, "output_lens": [OUTPUT] * requests,
    }))
    return path


def triage(*args):
    return subprocess.run([BINARY, "triage", *map(str, args)], capture_output=True, text=True, timeout=120)


def test_a_full_batch_is_told_from_results_alone(tmp_path):
    files = [result(tmp_path / f"r{rate}.json", rate) for rate in (1, 2, 4)]
    told = triage("--bench", *files)
    assert told.returncode == 1, told.stderr
    assert told.stdout.startswith("S01: all 4 places in the batch are taken"), told.stdout
    assert "--max-num-seqs" in told.stdout
    report = json.loads(triage("--bench", *files, "-o", "json").stdout)
    assert report["findings"][0]["id"] == "S01"


def test_one_that_keeps_up_is_left_alone(tmp_path):
    told = triage("--bench", result(tmp_path / "r1.json", 1))
    assert "S01" not in told.stdout, told.stdout


@pytest.mark.parametrize("text, said", [
    ("{", "no JSON"),
    ("[1, 2]", "no JSON"),
    ('{"model": "m"}', "neither `completed` nor `ttfts`"),
])
def test_what_is_no_result_is_said_with_its_file(tmp_path, text, said):
    path = tmp_path / "other.json"
    path.write_text(text)
    told = triage("--bench", path)
    assert told.returncode == 2, told.stdout
    assert "other.json" in told.stderr and said in told.stderr and "vllm bench serve" in told.stderr
    assert "Traceback" not in told.stderr and "panicked" not in told.stderr


def test_a_file_that_is_not_there_is_said(tmp_path):
    told = triage("--bench", tmp_path / "nowhere.json")
    assert told.returncode == 2 and "nowhere.json" in told.stderr


KEY = "pk-triage-0123456789abcdef0123456789"
MODEL = """\
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: %s}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  endpoints: [%s]
"""
TEAM = """\
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {name: team}
spec: {highestBand: standard, keys: [{name: k, sha256: %s}]}
"""


class Busy:
    """A gateway with models, each with engines that compute so many sequences at once, and clients that send as much as
    they can."""

    def __init__(self, folder, **models):
        self.ports, self.engines, documents = [], [], [TEAM % hashlib.sha256(KEY.encode()).hexdigest()]
        for name, engines in models.items():
            endpoints = []
            for sequences in engines:
                port = free_port()
                command = [BINARY, "bench", "engine", "--kind", "vllm", "--sequences", str(sequences), "--decode", "10ms", "--port", str(port)]
                self.engines.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                self.ports.append(port)
                endpoints.append(f"{{url: 'http://127.0.0.1:{port}', parallel: {sequences}}}")
            documents.append(MODEL % (name, ", ".join(endpoints)))
        for port in self.ports:
            wait_for("the engine", lambda port=port: ask("GET", f"http://127.0.0.1:{port}/health")[0] == 200)
        manifest = folder / "models.yaml"
        manifest.write_text("---\n".join(documents))
        self.stack = Stack(folder, "-f", str(manifest)).ready()
        self.key_file = folder / "data" / "admin.key"

    @contextlib.contextmanager
    def load(self, clients, model="m"):
        """So many clients that send one request after the other."""
        over = threading.Event()

        def client():
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 40, "stream": True}
            while not over.is_set():
                ask("POST", self.stack.url + "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}"})

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def look(self, *args):
        return triage("--url", self.stack.admin_url, "--key-file", self.key_file, *args)

    def stop(self):
        self.stack.stop()
        for engine in self.engines:
            engine.kill()
            engine.wait()


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    running = Busy(tmp_path_factory.mktemp("busy"), m=[4, 4])
    yield running
    running.stop()


def test_a_full_gateway_is_found_and_is_well_again_with_less_to_do(busy, tmp_path):
    saved = tmp_path / "seen.json"
    with busy.load(24):
        wait_for("a queue", lambda: busy.stack.status()["lanes"][0]["queue"]["requests"] > 4)
        told = busy.look("--window", "12s", "--save", saved)
    assert told.returncode == 1, told.stderr + told.stdout
    assert told.stdout.startswith("S01"), told.stdout
    seen = json.loads(saved.read_text())
    assert len(seen["replicas"]) == 2
    # What was saved is triaged to the same verdict elsewhere.
    assert triage("--evidence", saved).stdout == told.stdout
    with busy.load(3):
        told = busy.look("--window", "6s", "-o", "json")
    report = json.loads(told.stdout)
    assert "S01" not in [one["id"] for one in report["findings"]], told.stdout


def test_what_is_wrong_with_a_model_that_is_not_the_busiest_is_told(tmp_path):
    site = Busy(tmp_path, roomy=[64], full=[2])
    try:
        with site.load(20, "roomy"), site.load(8, "full"):
            def found():
                time.sleep(1)
                code, _, body = ask("GET", site.stack.admin_url + "/triage", headers={"Authorization": f"Bearer {site.key_file.read_text().strip()}"})
                assert code == 200, body
                report = json.loads(body)
                return report if ("S01", "full") in [(one["id"], one["model"]) for one in report["findings"]] else None
            report = wait_for("the gateway to see it", found, 90)
            told = site.look("--window", "8s")
            checked = cli("check", "--data-dir", str(site.stack.folder / "data"))
        assert report["model"] == "full" and "roomy" not in [one["model"] for one in report["findings"] if one["id"] == "S01"], report
        # What is to be changed is allowed where engines are others'.
        changes = [change["text"] for one in report["findings"] if one["id"] == "S01" for change in one["fix"]["changes"] if change["place"] == "manifest"]
        assert changes and all(text.startswith(("spec.endpoints", "kind: Route")) for text in changes), changes
        assert told.returncode == 1 and "== roomy" in told.stdout and "== full\n\nS01" in told.stdout, told.stdout
        assert "full: all" in checked.stdout, checked.stdout
    finally:
        site.stop()


def test_who_cannot_be_asked_is_said(busy, tmp_path):
    wrong = tmp_path / "wrong.key"
    wrong.write_text("not the key")
    told = triage("--url", busy.stack.admin_url, "--key-file", wrong)
    assert told.returncode == 2 and "401" in told.stderr and "--key-file" in told.stderr, told.stderr
    told = triage("--url", f"http://127.0.0.1:{free_port()}", "--key-file", wrong)
    assert told.returncode == 2 and "cannot reach" in told.stderr, told.stderr
    told = triage("--url", busy.stack.admin_url, "--key-file", busy.key_file, "--model", "other", "--window", "1s")
    assert told.returncode == 2 and "it has: m" in told.stderr, told.stderr


class Kept(http.server.BaseHTTPRequestHandler):
    """What a Prometheus server answers that has five minutes of three engines, of which one stands still."""

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        if self.headers.get("Authorization") != "Bearer sesame":
            return self.tell(401, {"status": "error", "error": "who are you?"})
        if url.path == "/api/v1/rules":
            return self.tell(200, {"status": "success", "data": {"groups": []}})
        if url.path.startswith("/api/v1/label/"):
            return self.tell(200, {"status": "success", "data": []})
        asked = urllib.parse.parse_qs(url.query)
        rows = self.engines(float(asked["time"][0])) if "vllm" in asked["query"][0] else []
        self.tell(200, {"status": "success", "data": {"resultType": "matrix", "result": rows}})

    def engines(self, until):
        rows, times = [], [until - 300 + 15 * number for number in range(1, 20)]
        for number in range(3):
            labels = {"pod": f"m-{number}", "model_name": "m", "engine": "0"}
            steps = [1000 + (0 if number == 1 else 50 * at) for at in range(len(times))]
            for name, values in [("vllm:num_requests_running", [4] * len(times)), ("vllm:iteration_tokens_total_count", steps)]:
                pairs = [[at, str(value)] for at, value in zip(times, values)]
                rows.append({"metric": {"__name__": name, **labels}, "values": pairs})
        return rows

    def tell(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_server_that_stands_still_is_found_in_what_prometheus_kept(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kept)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, key = f"http://127.0.0.1:{server.server_port}", tmp_path / "token"
    told = triage("--prometheus", url)
    assert told.returncode == 2 and "--key-file" in told.stderr, told.stderr
    key.write_text("sesame\n")
    told = triage("--prometheus", url, "--key-file", key, "--window", "5m")
    server.shutdown()
    assert told.returncode == 1, told.stderr
    assert told.stdout.startswith("S09") and "m-1" in told.stdout, told.stdout


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's package `prometheus` is not installed")
def test_a_real_prometheus_is_asked(busy, tmp_path):
    port, saved = free_port(), tmp_path / "seen.json"
    targets = ", ".join(f"'127.0.0.1:{port}'" for port in busy.ports)
    config = tmp_path / "prometheus.yml"
    config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: engines\n  static_configs: [{{targets: [{targets}]}}]\n")
    server = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                               f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("prometheus", lambda: ask("GET", url + "/-/ready")[0] == 200)

        def seen():
            triage("--prometheus", url, "--window", "30s", "--save", saved)
            replicas = json.loads(saved.read_text())["replicas"] if saved.exists() else []
            return len(replicas) == 2 and all(one["deltas"].get("generation_tokens", 0) > 0 for one in replicas)

        with busy.load(6):
            wait_for("both engines' tokens", seen, 60)
    finally:
        server.kill()
        server.wait()
