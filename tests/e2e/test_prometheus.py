"""A real Prometheus scrapes a real gateway with scripted engines: every panel shows something, and every alert is about
what it says. That alerts fire on gateways in trouble is in test_alerts.py.

It wants Debian's packages `prometheus` (with promtool); without them it says that it skips.
"""

import json
import re
import subprocess
import threading

import pytest
import yaml
from conftest import BINARY, KEY, Stack, cli, free_port, http, wait_for
from prometheus_kit import ROOT, RULES, Prometheus, alert_names, needs_prometheus, rules

BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))

# Boards of what this machine need not have; test_hardware.py tries their queries.
WANTING_HARDWARE = {"pilotage-gpus"}

pytestmark = needs_prometheus

MANIFEST = """
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: engines}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  endpoints: [{url: 'http://127.0.0.1:%(engine)d', parallel: 8}]
---
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: nobody}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  endpoints: [{url: 'http://127.0.0.1:9', parallel: 2}]
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  models: [chat]
  targets: [{model: engines}]
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: away}
spec:
  models: [away]
  targets: [{model: nobody}]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A gateway that answers, fails and has requests waiting, watched by two Prometheus: one with native histograms."""
    folder = tmp_path_factory.mktemp("prometheus")
    engine_port = free_port()
    engine = subprocess.Popen(
        [BINARY, "bench", "engine", "--kind", "vllm", "--port", str(engine_port), "--sequences", "8", "--decode", "5ms"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest = folder / "models.yaml"
    manifest.write_text(MANIFEST % {"engine": engine_port})
    (folder / "up").mkdir()
    stack = Stack(folder / "up", "-f", str(manifest), "--metrics-compat", "llm-d-epp")
    wait_for("the gateway", lambda: http("GET", f"{stack.url}/health/live")[0] == 200)
    wait_for("the engine", lambda: any(
        replica["up"] for lane in stack.status()["lanes"] if lane["name"] == "engines" for replica in lane["replicas"]))
    watching = {native: Prometheus(folder / f"native-{native}", [stack], [engine_port], native) for native in (False, True)}
    over = threading.Event()

    def ask(number):
        while not over.is_set():
            stack.post("/v1/chat/completions", {"model": "chat", "max_tokens": 12, "messages": [
                {"role": "user", "content": f"The same words again and again, {number}."}]})

    def wait_for_nothing():
        # Nobody serves it: each of these waits until its patience ends.
        while not over.is_set():
            try:
                stack.post("/v1/chat/completions", {"model": "away", "messages": [{"role": "user", "content": "?"}]},
                           headers={"x-pilotage-deadline-ms": "500"}, timeout=30)
            except OSError:
                pass

    def stream():
        client = stack.client()
        while not over.is_set():
            for _ in client.chat.completions.create(model="chat", max_tokens=12, stream=True,
                                                    messages=[{"role": "user", "content": "Stream, please."}]):
                pass

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    threads += [threading.Thread(target=wait_for_nothing) for _ in range(6)] + [threading.Thread(target=stream)]
    for thread in threads:
        thread.start()
    yield stack, watching
    over.set()
    for thread in threads:
        thread.join(60)
    for one in watching.values():
        one.stop()
    stack.stop()
    engine.kill()
    engine.wait()


def scrape(stack, accept):
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    code, headers, body = http("GET", stack.admin_url + "/metrics", headers={"Authorization": f"Bearer {key}", "Accept": accept})
    assert code == 200, body
    return headers["content-type"], body


def names_in(expr):
    """Names of series in a query: words that are no function, keyword or label."""
    expr = re.sub(r"\{[^}]*\}|\"[^\"]*\"", "", expr)
    expr = re.sub(r"\b(by|on|group_left|ignoring) ?\([^)]*\)", "", expr)
    return set(re.findall(r"\b(?:pilotage|process|vllm:|lane:|gen_ai|llm_d)[a-zA-Z0-9_:]*", expr))


def test_promtool_finds_nothing_wrong_with_rules_and_metrics(site):
    stack, _ = site
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    kind, page = scrape(stack, "text/plain;version=0.0.4")
    assert kind.startswith("text/plain")
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    said = (checked.stdout + checked.stderr).decode()
    # Names that others gave are theirs, and break promtool's advice.
    own = [line for line in said.splitlines() if not line.startswith("llm_d_epp_")]
    assert own == [], said


def test_each_format_is_given_to_who_asks_for_it(site):
    stack, _ = site
    kind, page = scrape(stack, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text") and page.endswith(b"# EOF\n")
    kind, page = scrape(stack, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
    assert kind.startswith("application/vnd.google.protobuf") and b"pilotage_requests_total" in page


@pytest.mark.parametrize("native", [False, True])
def test_every_panel_shows_something(site, native):
    _, watching = site
    prometheus = watching[native]
    wait_for("some answers", lambda: prometheus.query("pilotage_requests_total{lane=\"engines\",termination=\"ok\"} > 10"), 60)
    assert len(BOARDS) == 7
    for board in [board for board in BOARDS if board.stem not in WANTING_HARDWARE]:
        told = json.loads(board.read_text())
        for panel in told["panels"]:
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "30s").replace("$__range", "1m")
                expr = expr.replace("$model", ".*").replace("$tenant", ".*")
                wait_for(f"data for {panel['title']} of {told['title']}: {expr}", lambda e=expr: prometheus.query(e), 60)


def test_native_histograms_and_classic_ones_agree(site):
    _, watching = site

    def median(native, expr):
        answer = watching[native].query(f"histogram_quantile(0.5, {expr})")
        values = [float(each["value"][1]) for each in answer]
        return values[0] if values and values[0] == values[0] else None
    name = "pilotage_request_duration_seconds"
    of = "{lane=\"engines\"}"
    exact = wait_for("a native histogram", lambda: median(True, f"sum(rate({name}{of}[1m]))"), 60)
    classic = wait_for("a classic one", lambda: median(False, f"sum by (le) (rate({name}_bucket{of}[1m]))"), 60)
    # Native buckets are 9 % wide; the classic ones here double.
    assert classic / 2.2 < exact < classic * 2.2, (exact, classic)


def test_no_rule_names_a_series_that_there_is_not(site):
    stack, watching = site
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    page = scrape(stack, "text/plain")[1].decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    for rule in rules():
        for name in names_in(rule["expr"]):
            if name.startswith("pilotage_gpu_"):
                continue  # test_hardware.py has some.
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            known = name in recorded or name in kinds or kinds.get(family) == "histogram"
            assert known, (name, rule)
    for name in sorted(recorded):
        wait_for(name, lambda n=name: watching[False].query(n), 60)


def series(name, values, **labels):
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


LANE = {"lane": "m", "instance": "g:8081", "job": "pilotage"}
GATEWAY = {"instance": "g:8081", "job": "pilotage"}


def missed(objective, part):
    labels = {**LANE, "band": "standard", "objective": objective}
    return [series("pilotage_slo_requests_total", "0+600x480", **labels),
            series("pilotage_slo_misses_total", f"0+{int(600 * part)}x480", **labels)]


GPU = {**GATEWAY, "gpu": "0", "uuid": "GPU-a", "hardware": "l4", "replica": "m-0", "lane": "m"}
# What makes each alert fire: series by the minute, for eight hours.
STORIES = {
    "PilotageAnswersFailFast": missed("answered", 0.1),
    "PilotageAnswersFailSlowly": missed("answered", 0.04),
    "PilotageFirstTokenLateFast": missed("ttft", 0.2),
    "PilotageFirstTokenLateSlowly": missed("ttft", 0.1),
    "PilotageTokensSlowFast": missed("tpot", 0.2),
    "PilotageTokensSlowSlowly": missed("tpot", 0.1),
    "PilotageModelHasNoReplica": [series("pilotage_replicas_up", "0x480", **LANE), series("pilotage_queue_requests", "3x480", **LANE)],
    "PilotageReplicaTakenOut": [series("pilotage_ejections_total", "0+1x480", **LANE)],
    "PilotageManyRetries": [series("pilotage_retries_total", "0+20x480", **LANE),
                            series("pilotage_requests_total", "0+100x480", **LANE, termination="ok")],
    "PilotageQueueGrows": [series("pilotage_queue_requests", "20+2x480", **LANE)],
    "PilotageStreamsBreakOff": [series("pilotage_requests_total", "0+1x480", **LANE, termination="upstream_interrupted")],
    "PilotageAnswersCorrupted": [series("pilotage_corrupted_answers_total", "0+1x480", **LANE)],
    "PilotageStreamsStall": [series("pilotage_stalled_seconds_total", "0+20x480", **LANE),
                             series("pilotage_phase_seconds_total", "0+100x480", **LANE, phase="decode")],
    "PilotageTenantLimited": [series("pilotage_tenant_requests_total", "0+90x480", **GATEWAY, tenant="t", outcome="limited"),
                              series("pilotage_tenant_requests_total", "0+10x480", **GATEWAY, tenant="t", outcome="answered")],
    "PilotageServiceUneven": [series("pilotage_service_gap_tokens", "300000x480", **LANE)],
    "PilotageKvEventsLost": [series("pilotage_kv_events_total", "0+1x480", **LANE, kind="lost")],
    "PilotageKvEventsSilent": [series("pilotage_kv_event_feeds", "1x480", **LANE, state="silent")],
    "PilotageGatewayAway": [],
    "PilotageGatewaySlow": [series("pilotage_overhead_seconds_sum", "0+2x480", **GATEWAY),
                            series("pilotage_overhead_seconds_count", "0+100x480", **GATEWAY)],
    "PilotageGatewayDescriptorsShort": [series("process_open_fds", "90x480", **GATEWAY), series("process_max_fds", "100x480", **GATEWAY),
                                        series("pilotage_build_info", "1x480", **GATEWAY, version="0")],
    "PilotageUsageNotStored": [series("pilotage_ledger_store_up", "0x480", **GATEWAY)],
    "PilotageUsageNotWritten": [series("pilotage_ledger_journal_up", "0x480", **GATEWAY)],
    "PilotageUsageLost": [series("pilotage_ledger_lost_rows_total", "0x480", **GATEWAY), series("pilotage_ledger_refused_rows_total", "1x480", **GATEWAY)],
    "PilotageTracesLost": [series("pilotage_otlp_up", "1x480", **GATEWAY), series("pilotage_otlp_traces_total", "0+3x480", **GATEWAY, outcome="dropped")],
    # Of 90 days, eight hours and ten days are left.
    "PilotageCertificateExpires": [series("pilotage_certificate_not_before_timestamp_seconds", f"{-80 * 86400}x480", **GATEWAY),
                                   series("pilotage_certificate_not_after_timestamp_seconds", f"{10 * 86400}x480", **GATEWAY)],
    "PilotageGpuErrors": [series("pilotage_gpu_xid_errors_total", "0x477 1x3", **GPU)],
    "PilotageGpuThrottled": [series("pilotage_gpu_throttled", "1x480", **GPU, reason="hw_thermal_slowdown")],
    "PilotageGpuMemoryFull": [series("pilotage_gpu_memory_used_bytes", "99x480", **GPU), series("pilotage_gpu_memory_total_bytes", "100x480", **GPU)],
    "PilotageGpuMemoryFaulty": [series("pilotage_gpu_ecc_uncorrected_total", "2x470 3x10", **GPU)],
}
# The same with nothing wrong: what is counted stays far below.
HEALTHY = [*missed("answered", 0.001), *missed("ttft", 0.001), *missed("tpot", 0.001),
           series("pilotage_replicas_up", "2x480", **LANE), series("pilotage_queue_requests", "0x480", **LANE),
           series("pilotage_ejections_total", "0x480", **LANE), series("pilotage_retries_total", "0+1x480", **LANE),
           series("pilotage_requests_total", "0+100x480", **LANE, termination="ok"),
           series("pilotage_requests_total", "0x480", **LANE, termination="upstream_interrupted"),
           series("pilotage_corrupted_answers_total", "0x480", **LANE),
           series("pilotage_stalled_seconds_total", "0+1x480", **LANE),
           series("pilotage_phase_seconds_total", "0+100x480", **LANE, phase="decode"),
           series("pilotage_tenant_requests_total", "0+1x480", **GATEWAY, tenant="t", outcome="limited"),
           series("pilotage_tenant_requests_total", "0+99x480", **GATEWAY, tenant="t", outcome="answered"),
           series("pilotage_service_gap_tokens", "500x480", **LANE), series("pilotage_kv_events_total", "0x480", **LANE, kind="lost"),
           series("pilotage_kv_event_feeds", "0x480", **LANE, state="silent"),
           series("pilotage_overhead_seconds_sum", "0+0.01x480", **GATEWAY), series("pilotage_overhead_seconds_count", "0+100x480", **GATEWAY),
           series("process_open_fds", "50x480", **GATEWAY), series("process_max_fds", "1000x480", **GATEWAY),
           series("pilotage_build_info", "1x480", **GATEWAY, version="0"),
           series("pilotage_ledger_store_up", "1x480", **GATEWAY), series("pilotage_ledger_journal_up", "1x480", **GATEWAY),
           series("pilotage_ledger_lost_rows_total", "0x480", **GATEWAY), series("pilotage_ledger_refused_rows_total", "0x480", **GATEWAY),
           # No collector of traces is wanted here; a certificate of a day has half of it left.
           series("pilotage_otlp_up", "NaNx480", **GATEWAY), series("pilotage_otlp_traces_total", "0x480", **GATEWAY, outcome="dropped"),
           series("pilotage_certificate_not_before_timestamp_seconds", "0x480", **GATEWAY),
           series("pilotage_certificate_not_after_timestamp_seconds", "86400x480", **GATEWAY),
           series("pilotage_gpu_xid_errors_total", "1x480", **GPU), series("pilotage_gpu_ecc_uncorrected_total", "2x480", **GPU),
           series("pilotage_gpu_throttled", "0x480", **GPU, reason="hw_thermal_slowdown"),
           # A power limit that is reached is how such a limit is used.
           series("pilotage_gpu_throttled", "1x480", **GPU, reason="sw_power_cap"),
           series("pilotage_gpu_memory_used_bytes", "92x480", **GPU), series("pilotage_gpu_memory_total_bytes", "100x480", **GPU)]


def promtool_fires(folder, name, input_series):
    """Whether an alert fires after eight hours, by `promtool test rules`: it fails where it does."""
    # That alert with what is recorded for it: hours of all the others are computed for nothing.
    groups = yaml.safe_load(RULES.read_text())["groups"]
    needed = names_in(next(rule["expr"] for rule in rules() if rule.get("alert") == name))
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") == name or rule.get("record") in needed]
    own = folder / f"{name}.rules.yaml"
    own.write_text(yaml.safe_dump({"groups": [group for group in groups if group["rules"]]}))
    test = {"rule_files": [str(own)], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": input_series,
         "alert_rule_test": [{"eval_time": "8h", "alertname": name, "exp_alerts": []}]}]}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(test))
    told = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=120)
    said = told.stdout + told.stderr
    assert "FAILED" in said or "SUCCESS" in said, said
    return "got:[" in said.replace("\n", "").replace(" ", "") and told.returncode != 0


@pytest.mark.parametrize("name", alert_names())
def test_every_alert_fires_for_its_reason_and_else_is_silent(tmp_path, name):
    assert promtool_fires(tmp_path, name, STORIES[name]), name
    assert not promtool_fires(tmp_path, name, HEALTHY), name


def test_every_alert_has_a_section_to_go_to():
    page = (ROOT / "docs" / "guide" / "alerts.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert f"\n## {rule['alert']}\n" in page
            assert rule["annotations"]["runbook_url"].endswith("#" + rule["alert"].lower())
            assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_what_is_checked_in_is_what_the_program_writes():
    told = cli("reference", "--check", "--deploy", str(ROOT / "deploy"))
    assert told.returncode == 0, told.stderr


def test_names_that_nobody_knows_end_the_program(tmp_path):
    told = cli("up", "--data-dir", str(tmp_path), "--listen", f"127.0.0.1:{free_port()}", "--admin-listen",
               f"127.0.0.1:{free_port()}", env={"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_newest", "PILOTAGE_API_KEY": KEY})
    assert told.returncode == 2 and "gen_ai_newest" in told.stderr, told.stderr
