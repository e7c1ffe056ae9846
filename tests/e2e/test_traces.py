"""Traces arrive at a collector as the reference says, over both protocols; a collector that is away costs none of the
requests."""

import http.server
import json
import secrets
import threading

import pytest

from conftest import KEY, MODEL, cli, free_port, http as ask, wait_for
from otlp import CLIENT, INTERNAL, SERVER, Collector, attributes

CANARY = "canary-4711-do-not-tell"
PARENT = "00f067aa0ba902b7"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": f"Say hello, {CANARY}."}], "max_tokens": 12}
# An engine of others, somewhere else.
ELSEWHERE = """
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: m}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  endpoints: [{url: 'http://127.0.0.1:%(port)d', parallel: 4}]
"""
ANSWER = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted",
          "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}


@pytest.fixture(params=["http/protobuf", "grpc"])
def collector(request):
    running = Collector(request.param)
    yield running
    running.close()


@pytest.fixture
def engine():
    """A server that says what it was sent, and answers with the status it has."""

    class Engine(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            models = {"object": "list", "data": [{"id": "scripted", "object": "model"}]}
            self.reply(200, models if self.path == "/v1/models" else {})

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append(dict(self.headers.items()))
            bad = {"error": {"message": "out of luck", "type": "server_error", "code": 500}}
            self.reply(self.server.status, ANSWER if self.server.status == 200 else bad)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    server.seen, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def elsewhere(start, tmp_path, engine):
    """A gateway in front of that engine."""
    def begin(**environment):
        manifest = tmp_path / "model.yaml"
        manifest.write_text(ELSEWHERE % {"port": engine.server_address[1]})
        return start("-f", str(manifest), env=environment).ready()
    return begin


def traceparent(flags="01"):
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


def tree(collector, trace):
    """The spans of a trace by name, once its request's own is there."""
    def whole():
        spans = {span.name: span for span in collector.spans(trace)}
        return spans if any(span.kind == SERVER for span in spans.values()) else None
    return wait_for(f"the trace {trace}", whole, 30)


def length_ms(span):
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def traced_counts(stack):
    """The exporter's counters, as the status shows them."""
    return stack.status()["traces"]


def test_a_request_arrives_as_a_tree(start, collector):
    stack = start(env={**collector.environment(), "OTEL_SERVICE_NAME": "front-1", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                       "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%2Cb"}).ready()
    trace, headers = traceparent()
    client = stack.client(default_headers=headers)
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    usage = chunks[-1].usage
    spans = tree(collector, trace)
    root = spans["POST /v1/chat/completions"]
    assert root.kind == SERVER and root.parent_span_id.hex() == PARENT
    assert root.flags & 0x301 == 0x301, "sampled, and its parent is elsewhere"
    said = attributes(root)
    assert (said["http.response.status_code"], said["pilotage.termination"]) == (200, "ok")
    assert said["pilotage.kept"][0] == "sampled" and said["pilotage.stream"] is True
    assert said["pilotage.tenant"] == "local" and said["pilotage.band"] == "standard"
    phases = {name: ms for name, ms in said.items() if name.startswith("pilotage.phase.")}
    assert len(phases) == 10
    assert sum(phases.values()) == pytest.approx(length_ms(root), abs=1)
    attempt = spans[f"chat {MODEL}"]
    assert attempt.kind == CLIENT and attempt.parent_span_id == root.span_id
    used = attributes(attempt)
    assert used["gen_ai.operation.name"] == "chat" and used["gen_ai.request.model"] == MODEL
    assert used["gen_ai.provider.name"] == "pilotage" and used["gen_ai.response.model"] == MODEL
    assert used["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert used["gen_ai.usage.output_tokens"] == usage.completion_tokens
    assert [event.name for event in attempt.events if event.name != "stall"] == ["response.headers", "first_token", "last_token"]
    assert used["server.address"] == "127.0.0.1" and used["server.port"] > 0
    assert used["pilotage.connection.reused"] in (True, False)
    assert spans["route.pick"].kind == INTERNAL and "pilotage.pick.policy" in attributes(spans["route.pick"])
    for name in ("prefill", "decode"):
        assert spans[name].parent_span_id == attempt.span_id
        assert spans[name].start_time_unix_nano >= attempt.start_time_unix_nano
        assert spans[name].end_time_unix_nano <= attempt.end_time_unix_nano
    assert attributes(spans["decode"])["pilotage.itl.max_ms"] > 0
    counted = [name for name, span in spans.items() if "gen_ai.usage.output_tokens" in attributes(span)]
    assert counted == [f"chat {MODEL}"], "who adds up spans counts tokens once"
    # Only its own trace came: the rest of the tenth that is drawn is nobody's here.
    [resource] = [one for one in collector.resources()][:1]
    assert resource["service.name"] == "front-1" and resource["telemetry.sdk.language"] == "rust"
    assert collector.scopes()[0].schema_url.startswith("https://opentelemetry.io/schemas/")
    assert collector.headers[0]["x-team"] == "a,b"
    assert traced_counts(stack)["state"] == "up"
    # Never content, and no key.
    assert CANARY.encode() not in collector.raw and KEY.encode() not in collector.raw
    assert stack.stop() == 0, stack.said()


def test_what_waits_is_sent_at_the_end(start, collector):
    stack = start(env={**collector.environment(), "OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_TRACES_SAMPLER": "always_on"}).ready()
    assert stack.post("/v1/chat/completions", CHAT)[0] == 200
    assert not collector.requests
    assert stack.stop() == 0, stack.said()
    assert [span.kind for span in collector.spans()].count(SERVER) == 1


def test_engines_go_on_with_the_trace(elsewhere, engine):
    collector = Collector("http/protobuf")
    stack = elsewhere(**collector.environment(), OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest_experimental")
    trace, headers = traceparent()
    headers["tracestate"] = "vendor=1"
    assert stack.post("/v1/chat/completions", {**CHAT, "model": "m"}, headers)[0] == 200
    attempt = tree(collector, trace)["chat m"]
    assert engine.seen[-1]["tracestate"] == "vendor=1"
    assert engine.seen[-1]["traceparent"] == f"00-{trace}-{attempt.span_id.hex()}-01"
    used = attributes(attempt)
    assert used["gen_ai.request.stream"] is False and used["pilotage.usage.counted"] is True
    assert "gen_ai.usage.cache_read.input_tokens" in used and used["gen_ai.provider.name"] == "vllm"
    collector.close()


def test_what_failed_is_kept_though_it_was_not_drawn(elsewhere, engine):
    collector = Collector("http/protobuf")
    stack = elsewhere(**collector.environment(), OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    # The client's wish does not count with this sampler.
    drawn, headers = traceparent()
    assert stack.post("/v1/chat/completions", {**CHAT, "model": "m"}, headers)[0] == 200
    engine.status = 500
    trace, headers = traceparent()
    status, _, _ = stack.post("/v1/chat/completions", {**CHAT, "model": "m"}, headers)
    assert status >= 500
    spans = tree(collector, trace)
    root = spans["POST /v1/chat/completions"]
    assert "error" in attributes(root)["pilotage.kept"] and root.status.code == 2
    assert attributes(root)["error.type"] == "upstream_error" and root.flags & 1 == 0
    attempts = [span for span in collector.spans(trace) if span.kind == CLIENT]
    assert attempts and all(span.status.code == 2 for span in attempts)
    for span in attempts:
        said = attributes(span)
        assert (said["http.response.status_code"], said["error.type"], said["pilotage.fault"]) == (500, "500", "server_error")
    # Its number is an example in the metrics, as it can be found; the one that is not sent is not.
    _, _, page = ask("GET", stack.admin_url + "/metrics", headers={
        "Authorization": f"Bearer {(stack.folder / 'data' / 'admin.key').read_text().strip()}",
        "Accept": "application/openmetrics-text; version=1.0.0"})
    assert trace.encode() in page and drawn.encode() not in page
    assert b'fault="server_error"} ' in page
    assert engine.seen[-1]["traceparent"].endswith("-00")
    assert not collector.spans(drawn)
    # A client's own mistake is none of ours.
    mistake, headers = traceparent()
    assert stack.post("/v1/chat/completions", {**CHAT, "model": "unknown"}, headers)[0] == 404
    engine.status = 200
    assert stack.stop() == 0, stack.said()
    assert not collector.spans(mistake)
    collector.close()


def test_clients_cannot_have_all_that_is_recorded(elsewhere, engine):
    collector = Collector("http/protobuf")
    stack = elsewhere(**collector.environment(), OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0",
                      PILOTAGE_CLIENT_TRACES_PER_SECOND="0")
    trace, headers = traceparent()
    assert stack.post("/v1/chat/completions", {**CHAT, "model": "m"}, headers)[0] == 200
    assert engine.seen[-1]["traceparent"].endswith("-00"), "as if it had not asked"
    assert traced_counts(stack)["held_back"] == 1
    engine.status = 500
    failed, headers = traceparent()
    assert stack.post("/v1/chat/completions", {**CHAT, "model": "m"}, headers)[0] >= 500
    assert "error" in attributes(tree(collector, failed)["POST /v1/chat/completions"])["pilotage.kept"]
    assert not collector.spans(trace)
    engine.status = 200
    assert stack.stop() == 0, stack.said()
    collector.close()


def test_a_collector_that_dies_costs_no_request(elsewhere, collector):
    stack = elsewhere(**{**collector.environment(), "OTEL_TRACES_SAMPLER": "always_on", "OTEL_BSP_MAX_QUEUE_SIZE": "5",
                         "OTEL_EXPORTER_OTLP_TIMEOUT": "1000"})
    body = {**CHAT, "model": "m"}
    assert stack.post("/v1/chat/completions", body)[0] == 200
    wait_for("the first trace", lambda: traced_counts(stack)["exported"] == 1, 30)
    collector.close()
    assert stack.post("/v1/chat/completions", body)[0] == 200
    wait_for("the trouble to show", lambda: traced_counts(stack)["state"] == "failing", 30)
    for _ in range(20):
        assert stack.post("/v1/chat/completions", body)[0] == 200
    state = traced_counts(stack)
    assert state["queued"] <= state["queue_max"] == 5 and state["dropped"] >= 10, state
    assert state["last_error"], state
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    metrics = ask("GET", stack.admin_url + "/metrics", headers={"Authorization": f"Bearer {key}"})[2].decode()
    shown = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("pilotage_otlp_"))
    assert int(shown['pilotage_otlp_traces_total{outcome="dropped"}']) == state["dropped"]
    assert float(shown["pilotage_otlp_up"]) == 0
    # It is back: what still waits is sent.
    collector.open()
    wait_for("traces to arrive again", lambda: traced_counts(stack)["state"] == "up", 60)
    assert stack.post("/v1/chat/completions", body)[0] == 200
    wait_for("the last trace", lambda: traced_counts(stack)["queued"] == 0, 30)
    assert stack.stop() == 0, stack.said()


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(elsewhere):
    # Its port takes connections, and nobody ever answers.
    hangs = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    stack = elsewhere(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{hangs.server_address[1]}",
                      OTEL_TRACES_SAMPLER="always_on", OTEL_BSP_SCHEDULE_DELAY="50")
    for _ in range(5):
        assert stack.post("/v1/chat/completions", {**CHAT, "model": "m"})[0] == 200
    # Five seconds at most for what cannot be sent.
    assert stack.stop(limit_s=15) == 0, stack.said()
    assert "traces were not sent before the end" in stack.said()
    hangs.server_close()


def test_settings_that_nothing_fulfils_refuse_the_start(tmp_path):
    def check(expect, **environment):
        port = free_port()
        said = cli("up", "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path / "data"),
                   env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **environment})
        assert said.returncode == 2 and expect in said.stderr, said
    check("OTEL_SEMCONV_STABILITY_OPT_IN", OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_next")
    check("OTEL_TRACES_SAMPLER", OTEL_TRACES_SAMPLER="jaeger_remote")
    check("OTEL_EXPORTER_OTLP_PROTOCOL", OTEL_EXPORTER_OTLP_PROTOCOL="http/json")
    check("OTEL_EXPORTER_OTLP_ENDPOINT", OTEL_EXPORTER_OTLP_ENDPOINT="collector")
