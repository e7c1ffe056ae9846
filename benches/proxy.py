#!/usr/bin/env python3
"""What standing between clients and engines costs: processor time, memory and added latency of the
gateway beside other proxies, each with the same scripted engines behind it and the same load in front.

    benches/proxy.py [--only pilotage,nginx,…] [--measure small,large,…] [--rounds 3] [--json FILE]

The proxy runs on one core, the engines and the load on another. Processor time is that of the proxy's
whole process tree, as /proc counts it, divided by what the engines say they finished: both hold on a
machine that is busy with other things, where rates do not. Proxies that are not installed are left out.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from servers import free_port

KEY = "pk-" + "bench" * 8
TICKS = os.sysconf("SC_CLK_TCK")
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="pilotage-proxy-"))
PROMPT = "Say in one sentence why the sky is blue at noon and red in the evening. "


def body(name, prompt, **more):
    file = FOLDER / f"{name}.json"
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": prompt}]
    file.write_text(json.dumps({"model": "scripted", "messages": messages, "max_tokens": 16, **more}))
    return file


SMALL = body("small", PROMPT)
LARGE = body("large", PROMPT * (256 * 1024 // len(PROMPT)))
STREAM = body("stream", PROMPT, stream=True)
(FOLDER / "key").write_text(KEY)


def get(url, key=None):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for each in found:
        try:
            for task in pathlib.Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    total = 0
    for each in tree(pid):
        try:
            fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICKS


def resident_mb(pid):
    total = 0
    for each in tree(pid):
        try:
            text = pathlib.Path(f"/proc/{each}/status").read_text()
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
        except OSError:
            pass
    return total / 1024


class Child:
    """A process on one core, or on several (`0,1`), in a session of its own, with its output in a file."""

    def __init__(self, name, core, command, env=None, nice=0, log=None):
        self.name = name
        self.log = open(log or FOLDER / f"{name}.log", "ab")
        pinned = ["taskset", "-c", str(core)] + (["nice", "-n", str(nice)] if nice else [])
        self.process = subprocess.Popen(pinned + [str(part) for part in command], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, start_new_session=True,
                                        env={**os.environ, **(env or {})})
        self.pid = self.process.pid

    def wait_for(self, url, seconds=60, key=None, post=None):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}; see {self.log.name}")
            try:
                headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
                with urllib.request.urlopen(urllib.request.Request(url, data=post, headers=headers), timeout=5) as answer:
                    answer.read()
                    return
            except (OSError, urllib.error.HTTPError):
                time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not answer {url}; see {self.log.name}")

    def stop(self):
        try:
            os.killpg(self.pid, signal.SIGTERM)
            self.process.wait(5)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()


class Engines:
    """Scripted engines in one process."""

    def __init__(self, options, count=4, **shape):
        self.first = 20000 + os.getpid() % 5000 * 2
        flags = [part for name, value in shape.items() for part in ("--" + name.replace("_", "-"), value)]
        command = [options.engine, "bench", "engine", "--port", self.first, "--count", count, *flags]
        self.child = Child("engine", options.load_core, command, nice=options.nice)
        self.urls = [f"http://127.0.0.1:{self.first + each}" for each in range(count)]
        self.child.wait_for(self.urls[-1] + "/health")

    def finished(self):
        return sum(json.loads(get(url + "/scripted/stats"))["finished"] for url in self.urls)

    def stop(self):
        self.child.stop()


def pilotage(options, urls, port, endpoint="parallel: 20000", context=1_000_000):
    endpoints = "".join(f"\n    - {{ url: '{url}', {endpoint} }}" for url in urls)
    manifest = FOLDER / "pilotage.yaml"
    manifest.write_text(f"""apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {{ name: scripted }}
spec:
  dialect: vllm
  context: {context}
  endpoints:{endpoints}
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {{ name: scripted }}
spec:
  targets: [ {{ model: scripted }} ]
---
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {{ name: org }}
---
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {{ name: team }}
spec:
  parent: org
  weight: 3
  quota: {{ requestsPerMinute: 100000000 }}
  keys: [ {{ name: k, sha256: {hashlib.sha256(KEY.encode()).hexdigest()} }} ]
""")
    data = FOLDER / "data"
    return [options.pilotage, "up", "-f", manifest, "--listen", f"127.0.0.1:{port}", "--admin-listen",
            f"127.0.0.1:{free_port()}", "--data-dir", data], {}


def nginx(_options, urls, port):
    servers = "".join(f"server {url.removeprefix('http://')};" for url in urls)
    conf = FOLDER / "nginx.conf"
    conf.write_text(f"""daemon off; worker_processes 1; pid {FOLDER}/nginx.pid; error_log {FOLDER}/nginx.err;
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
http {{
  access_log {FOLDER}/nginx.access; client_body_temp_path {FOLDER}/nginx-body; proxy_temp_path {FOLDER}/nginx-proxy;
  fastcgi_temp_path {FOLDER}/f; uwsgi_temp_path {FOLDER}/u; scgi_temp_path {FOLDER}/s;
  upstream engines {{ least_conn; {servers} keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 1000000;
    client_max_body_size 64m; client_body_buffer_size 1m;
    location / {{
      proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
""")
    return ["nginx", "-c", conf, "-p", FOLDER], {}


def haproxy(_options, urls, port):
    servers = "\n".join(f"  server s{at} {url.removeprefix('http://')} check" for at, url in enumerate(urls))
    conf = FOLDER / "haproxy.cfg"
    conf.write_text(f"""global
  nbthread 1
  maxconn 9900
  log {FOLDER}/none local0
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-no-delay
frontend f
  bind 127.0.0.1:{port} backlog 4096
  default_backend b
backend b
  balance leastconn
  http-reuse always
  option httpchk GET /health
{servers}
""")
    return ["haproxy", "-db", "-f", conf], {}


def envoy(options, urls, port):
    """Plain: one listener, one cluster, no access log, no filter but the router."""
    kind = "type.googleapis.com/envoy.extensions"
    def address(host, number):
        return {"socket_address": {"address": host, "port_value": number}}
    def endpoint(url):
        host, number = url.removeprefix("http://").split(":")
        return {"endpoint": {"address": address(host, int(number))}}
    limits = {"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}
    router = {"name": "envoy.filters.http.router",
              "typed_config": {"@type": f"{kind}.filters.http.router.v3.Router"}}
    manager = {"@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": "in", "stream_idle_timeout": "600s", "http_filters": [router],
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "engines", "timeout": "0s"}}]}]}}
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    cluster = {"name": "engines", "type": "STATIC", "lb_policy": "LEAST_REQUEST", "connect_timeout": "5s",
               "circuit_breakers": {"thresholds": [limits]},
               "load_assignment": {"cluster_name": "engines",
                                   "endpoints": [{"lb_endpoints": [endpoint(url) for url in urls]}]}}
    conf = FOLDER / "envoy.json"
    conf.write_text(json.dumps({"static_resources": {"clusters": [cluster], "listeners": [
        {"name": "in", "address": address("127.0.0.1", port), "filter_chains": [{"filters": filters}]}]}}))
    return [options.venv / "bin/envoy", "-c", conf, "--concurrency", "1", "--log-level", "warn",
            "--disable-hot-restart"], {}


def smg(options, urls, port):
    return [options.smg_venv / "bin/smg", "launch", "--host", "127.0.0.1", "--port", port, "--prometheus-port",
            free_port(), "--log-level", "warn", "--disable-tokenizer-autoload", "--worker-urls", *urls], {}


def vllm_router(options, urls, port):
    return [options.venv / "bin/vllm-router", "--host", "127.0.0.1", "--port", port, "--prometheus-port", free_port(),
            "--log-level", "warning", "--worker-urls", *urls], {}


def sglang_router(options, urls, port):
    return [options.venv / "bin/sglang-router", "launch", "--host", "127.0.0.1", "--port", port, "--prometheus-port",
            free_port(), "--log-level", "warn", "--worker-urls", *urls], {}


def litellm(options, urls, port):
    conf = FOLDER / "litellm.yaml"
    conf.write_text("model_list:\n" + "".join(
        f"  - {{model_name: scripted, litellm_params: {{model: openai/scripted, api_base: '{url}/v1', api_key: x}}}}\n"
        for url in urls))
    return [options.venv / "bin/litellm", "--config", conf, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"], {}


PROXIES = {"pilotage": pilotage, "nginx": nginx, "haproxy": haproxy, "envoy": envoy, "smg": smg, "vllm-router": vllm_router,
           "sglang-router": sglang_router, "litellm": litellm}


class Proxy:
    """A proxy that answers; `direct` is the first engine itself."""

    def __init__(self, options, name, engines, ready=None):
        self.name, self.child = name, None
        if name == "direct":
            self.url = engines.urls[0]
            return
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command, env = PROXIES[name](options, engines.urls, port)
        self.child = Child(name, options.proxy_core, command, env, nice=options.nice)
        try:
            if ready:
                self.child.wait_for(self.url + ready)
            else:
                self.child.wait_for(self.url + "/v1/chat/completions", key=KEY, post=SMALL.read_bytes())
        except RuntimeError:
            self.child.stop()
            raise

    def stop(self):
        if self.child:
            self.child.stop()


def load(options, proxy, file, *flags, wait=True):
    command = [options.load, "bench", "run", proxy.url, "--endpoint", "raw:/v1/chat/completions", "--body-file", file,
               "--key-file", FOLDER / "key", "--model", "scripted", "-o", "json", *flags]
    if "--warm-up" not in flags:
        command += ["--warm-up", "0"]
    pinned = ["taskset", "-c", str(options.load_core)] + (["nice", "-n", str(options.nice)] if options.nice else [])
    pinned += [str(part) for part in command]
    if not wait:
        return subprocess.Popen(pinned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = subprocess.run(pinned, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise RuntimeError(f"{' '.join(pinned)}: {done.stderr[-500:]}") from None


def per_finished(options, name, file, shape, requests, concurrency, unit):
    """Processor seconds for so many requests: medians of rounds, after one that does not count."""
    engines = Engines(options, **shape)
    try:
        proxy = Proxy(options, name, engines)
        try:
            rounds = []
            for number in range(options.rounds + 1):
                count = requests if number else max(requests // 4, 1)
                before, cpu = engines.finished(), cpu_seconds(proxy.child.pid)
                report = load(options, proxy, file, "--concurrency", concurrency, "--requests", count)
                cpu, done = cpu_seconds(proxy.child.pid) - cpu, engines.finished() - before
                if report["counts"]["ok"] < count * 0.99:
                    raise RuntimeError(f"{name}: {report['counts']}")
                if number:
                    rounds.append(cpu / done * unit)
            return {"cpu_s": round(statistics.median(rounds), 3), "rounds": [round(each, 3) for each in rounds],
                    "rss_mb": round(resident_mb(proxy.child.pid), 1)}
        finally:
            proxy.stop()
    finally:
        engines.stop()


def small(options, name):
    return per_finished(options, name, SMALL, {}, options.requests, 32, 10_000)


def large(options, name):
    return per_finished(options, name, LARGE, {}, options.requests // 20, 8, 1000)


def stream(options, name):
    """A million chunks, as fast as they go, each of them a write of the engine."""
    return per_finished(options, name, STREAM, {"chunks": 1000}, options.requests // 40, 16, 1000)


def paced(options, name):
    """A million chunks, each 20 ms after the one before, in 200 streams at once."""
    return per_finished(options, name, STREAM, {"chunks": 200, "chunk_gap": "20ms"}, 400, 200, 5000)


def open_streams(options, name):
    found = {}
    for count in (1000, options.open_max):
        engines = Engines(options, chunks=1000, chunk_gap="20s")
        try:
            # An answer takes hours: whether the proxy is there is asked otherwise.
            proxy = Proxy(options, name, engines, "/health/ready" if name == "pilotage" else "/health")
            sender = None
            try:
                before = resident_mb(proxy.child.pid)
                sender = load(options, proxy, STREAM, "--concurrency", count, "--duration", "60s", "--grace", "1s",
                              "--connections", count, wait=False)
                end = time.monotonic() + 40
                while time.monotonic() < end:
                    active = sum(json.loads(get(url + "/scripted/stats"))["active"] for url in engines.urls)
                    if active >= count:
                        break
                    time.sleep(0.5)
                time.sleep(1)
                found[str(count)] = {"open": active, "rss_mb": round(resident_mb(proxy.child.pid), 1),
                                     "before_mb": round(before, 1)}
            finally:
                if sender:
                    sender.kill()
                    sender.wait()
                proxy.stop()
        finally:
            engines.stop()
    return found


def idle(options, name):
    engines = Engines(options, count=100)
    try:
        proxy = Proxy(options, name, engines)
        try:
            time.sleep(3)
            cpu, began = cpu_seconds(proxy.child.pid), time.monotonic()
            time.sleep(20)
            part = (cpu_seconds(proxy.child.pid) - cpu) / (time.monotonic() - began)
            return {"core_percent": round(part * 100, 2), "rss_mb": round(resident_mb(proxy.child.pid), 1)}
        finally:
            proxy.stop()
    finally:
        engines.stop()


def latency(options, name):
    """Added at a rate, in milliseconds: percentiles of single requests, direct ones in turn with the others."""
    engines = Engines(options)
    try:
        proxy, direct = Proxy(options, name, engines), Proxy(options, "direct", engines)
        found = {"through": [], "direct": []}
        try:
            for _ in range(options.rounds):
                for way, server in (("direct", direct), ("through", proxy)):
                    report = load(options, server, SMALL, "--rate", options.rate, "--duration", f"{options.seconds}s",
                                  "--warm-up", "1s")
                    spread = report["latency"]["e2e_from_send_ms"]
                    found[way].append((spread["p50"], spread["p99"]))
            medians = {way: [statistics.median(each) for each in zip(*pairs)] for way, pairs in found.items()}
            p50, p99 = (through - direct for through, direct in zip(medians["through"], medians["direct"]))
            return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "direct_ms": medians["direct"],
                    "through_ms": medians["through"]}
        finally:
            proxy.stop()
    finally:
        engines.stop()


MEASURES = {"small": small, "large": large, "stream": stream, "paced": paced, "open": open_streams, "idle": idle,
            "latency": latency}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilotage", type=pathlib.Path, default="target/release/pilotage")
    parser.add_argument("--engine", help="the binary that runs the engines, if it is another")
    parser.add_argument("--load", help="the binary that sends the load, if it is another")
    parser.add_argument("--venv", type=pathlib.Path, default=".venv", help="where Python's proxies are installed")
    parser.add_argument("--smg-venv", type=pathlib.Path, help="where SMG is, whose script another proxy's package replaces")
    parser.add_argument("--only", default=",".join(PROXIES))
    parser.add_argument("--measure", default=",".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000, help="small requests in a round")
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--open-max", type=int, default=10_000)
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    options.smg_venv = options.smg_venv or options.venv
    options.engine, options.load = options.engine or options.pilotage, options.load or options.pilotage
    results = {}
    for name in options.only.split(","):
        command = PROXIES[name](options, [], 0)[0][0]
        if not shutil.which(str(command)):
            print(f"{name}: not installed")
            continue
        for measure in options.measure.split(","):
            try:
                result = MEASURES[measure](options, name)
            except RuntimeError as error:
                result = {"error": str(error)}
            results.setdefault(name, {})[measure] = result
            print(f"{name:14} {measure:8} {json.dumps(result)}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
