"""What replicas run on, what that costs, and accelerators in the metrics: with a library in the place of NVIDIA's own.

The library is made of fake_nvml.c by `cc`; without one its tests say that they skip.
"""

import json
import pathlib
import re
import shutil
import subprocess
import threading

import pytest
from conftest import BINARY, KEY, Stack, cli, free_port, http, wait_for

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

MANIFEST = """
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: chat}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  endpoints:
  - {url: 'http://127.0.0.1:%(engine)d', parallel: 8, hardware: l4, accelerators: 2}
"""

BOOK = """currency: EUR
prices:
- {hardware: l4, perHour: '1800'}
- {hardware: l4, perHour: '3600', from: 2020-01-01}
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory):
    """A folder with a libnvidia-ml.so.1."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler: apt-get install gcc")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(folder / "libnvidia-ml.so.1"), str(HERE / "fake_nvml.c")], check=True)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory, nvml):
    folder = tmp_path_factory.mktemp("hardware")
    port = free_port()
    engine = subprocess.Popen(
        [BINARY, "bench", "engine", "--kind", "vllm", "--port", str(port), "--sequences", "8", "--decode", "5ms"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest, book = folder / "models.yaml", folder / "prices.yaml"
    manifest.write_text(MANIFEST % {"engine": port})
    book.write_text(BOOK)
    stack = Stack(folder, "-f", str(manifest), env={"LD_LIBRARY_PATH": str(nvml), "PILOTAGE_PRICE_BOOK": str(book)}).ready()
    yield stack
    stack.stop()
    engine.kill()
    engine.wait()


def ask(stack, path):
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    code, _, body = http("GET", stack.admin_url + path, headers={"Authorization": f"Bearer {key}", "Accept": "text/plain;version=0.0.4"})
    assert code == 200, body
    return body.decode()


def page_with(stack, word):
    return wait_for(word, lambda: (lambda page: page if word in page else None)(ask(stack, "/metrics")), 60)


def test_accelerators_are_told_as_the_driver_tells_them(site):
    page = page_with(site, 'xid="79"')
    own = 'gpu="0",uuid="GPU-fake-0001",hardware="l4",replica="_other",lane="_other"'
    expected = {
        "pilotage_gpu_utilization_ratio": 0.97, "pilotage_gpu_memory_used_bytes": 18 << 30, "pilotage_gpu_memory_total_bytes": 24 << 30,
        "pilotage_gpu_temperature_celsius": 86, "pilotage_gpu_power_watts": 71.5, "pilotage_gpu_power_limit_watts": 72,
        "pilotage_gpu_sm_clock_hertz": 1020e6, "pilotage_gpu_sm_clock_max_hertz": 2040e6, "pilotage_gpu_pcie_replays_total": 2,
        "pilotage_gpu_xid_errors_total": 1, "pilotage_gpu_ecc_uncorrected_total": 0,
    }
    found = dict(re.findall(r"^(pilotage_gpu_\w+)\{" + re.escape(own) + r"\} (\S+)$", page, re.M))
    assert {name: float(value) for name, value in found.items()} == expected
    reasons = dict(re.findall(r'^pilotage_gpu_throttled\{.*reason="(\w+)"\} (\S+)$', page, re.M))
    assert float(reasons["hw_thermal_slowdown"]) == 1 and float(reasons["sw_power_cap"]) == 0 and "gpu_idle" not in reasons
    assert re.search(r'^pilotage_replica_info\{replica="chat@\S+",lane="chat",.*hardware="l4"\} 1$', page, re.M), page


def test_board_and_alerts_name_nothing_that_there_is_not(site):
    page = page_with(site, 'xid="79"')
    kinds = set(re.findall(r"^# TYPE (\S+) ", page, re.M))
    board = json.loads((ROOT / "deploy" / "grafana" / "pilotage-gpus.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += re.findall(r"^ +expr: (.*)$", (ROOT / "deploy" / "prometheus" / "rules.yaml").read_text(), re.M)
    names = {name for expr in asked for name in re.findall(r"pilotage_gpu_\w+", expr)}
    assert names and names <= kinds, names - kinds


def test_without_a_driver_nothing_is_told_and_nothing_is_wrong(stack):
    page = ask(stack, "/metrics")
    assert not re.findall(r"^pilotage_gpu_\w+\{", page, re.M) or shutil.which("nvidia-smi")
    assert "hardware" in json.dumps(stack.status())
    replicas = [replica for lane in stack.status()["lanes"] for replica in lane["replicas"]]
    assert {(replica["hardware"], replica["accelerators"]) for replica in replicas} == {("cpu", 1)}


def test_what_replicas_run_on_is_told_and_counted(site):
    replica, = [replica for lane in site.status()["lanes"] for replica in lane["replicas"]]
    assert (replica["hardware"], replica["accelerators"], replica["price_per_hour"]) == ("l4", 2, None)
    code, answer, _ = site.post("/v1/chat/completions", {"model": "chat", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello."}]})
    assert code == 200, answer

    def counted():
        usage = json.loads(ask(site, "/usage?by=model,hardware"))
        rows = [row for row in usage["rows"] if row["hardware"] == "l4" and row["requests"] >= 1]
        return usage if rows else None
    assert wait_for("usage", counted, 60)["currency"] == "EUR"

    def billed():
        cost = json.loads(ask(site, "/usage/cost"))
        return cost if float(cost["bill"]) > 0 else None
    assert wait_for("a bill", billed, 60)["currency"] == "EUR"


def test_a_wrong_price_book_ends_the_program_with_its_line(tmp_path):
    book = tmp_path / "prices.yaml"
    book.write_text("currency: EUR\nprices:\n- {hardware: l4, perHour: cheap}\n")
    told = cli("up", "--data-dir", str(tmp_path / "data"), "--listen", f"127.0.0.1:{free_port()}", "--admin-listen",
               f"127.0.0.1:{free_port()}", env={"PILOTAGE_PRICE_BOOK": str(book), "PILOTAGE_API_KEY": KEY})
    assert told.returncode != 0 and "prices.yaml:3" in told.stderr and "prices[0].perHour" in told.stderr, told.stderr


PAGE = """# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",namespace="llm",pod="m-0"} 61
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",namespace="llm",pod="m-0"} 0
"""


def test_exporters_of_a_cluster_are_asked(tmp_path):
    from http import server as web

    class Exporter(web.BaseHTTPRequestHandler):
        def do_GET(self):
            body = PAGE.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = web.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    manifest = tmp_path / "models.yaml"
    manifest.write_text(MANIFEST % {"engine": 9})
    stack = Stack(tmp_path, "-f", str(manifest), env={"PILOTAGE_DCGM_URL": f"http://localhost:{server.server_port}/metrics"})
    try:
        wait_for("the gateway", lambda: http_live(stack))
        page = page_with(stack, 'uuid="GPU-a"')
        assert 'pilotage_gpu_temperature_celsius{gpu="0",uuid="GPU-a",hardware="h100-sxm",replica="_other",lane="_other"} 61' in page
        assert 'pilotage_gpu_xid_errors_total{gpu="0",uuid="GPU-a",hardware="h100-sxm",replica="_other",lane="_other"} 0' in page
    finally:
        stack.stop()
        server.shutdown()


def http_live(stack):
    return http("GET", f"{stack.url}/health/live")[0] == 200
