"""`pilotage adapters` beside an engine that plays vLLM: what a list names is loaded, what it names no more goes, and
an engine that starts anew gets all of it again."""

import http.server
import json
import os
import signal
import subprocess
import threading

import pytest

from conftest import BINARY, free_port, http as ask, wait_for

KEY = "engine-key"


class Engine(http.server.ThreadingHTTPServer):
    """Lists, loads and unloads as vLLM does."""

    def __init__(self, port):
        self.adapters, self.log = {}, []
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def is_known(self):
        if self.headers["Authorization"] == f"Bearer {KEY}":
            return True
        self.answer(401, {"error": "Unauthorized"})
        return False

    def do_GET(self):
        if not self.is_known():
            return
        if self.path != "/v1/models":
            return self.answer(404, {"detail": "Not Found"})
        listed = [{"id": "m", "root": "/weights/m", "parent": None}]
        listed += [{"id": name, "root": at, "parent": "m"} for name, at in self.server.adapters.items()]
        self.answer(200, {"object": "list", "data": listed})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_known():
            return
        name, at = body["lora_name"], body.get("lora_path")
        self.server.log.append((self.path.rsplit("/", 1)[1], name))
        if at and not os.path.exists(os.path.join(at, "adapter_config.json")):
            return self.answer(404, {"error": {"message": f"No adapter found for {at}"}})
        if at:
            self.server.adapters[name] = at
        else:
            self.server.adapters.pop(name, None)
        self.answer(200, "Success")


@pytest.fixture
def beside(tmp_path):
    """A list, an engine's port, and `pilotage adapters` beside it."""
    for name in ("law", "sql"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")

    def write(**sources):
        all = [{"name": name, "source": f"file:{tmp_path / at}"} for name, at in sources.items()]
        next = tmp_path / "next.json"
        next.write_text(json.dumps({"adapters": all}))
        next.replace(tmp_path / "adapters.json")

    port, told = free_port(), free_port()
    write(sql="sql")
    process = subprocess.Popen(
        [BINARY, "adapters", "--list", str(tmp_path / "adapters.json"), "--engine", f"http://127.0.0.1:{port}",
         "--dialect", "vllm", "--listen", f"127.0.0.1:{told}"],
        stdin=subprocess.DEVNULL, stderr=open(tmp_path / "log", "wb"),
        env={**os.environ, "PILOTAGE_ENGINE_KEY": KEY, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    yield write, port, f"http://127.0.0.1:{told}", process
    process.kill()
    process.wait()


def is_ready(url):
    return ask("GET", f"{url}/ready")[0] == 200


def states(url):
    told = json.loads(ask("GET", f"{url}/adapters")[2])
    return {one["name"]: (one["state"], one.get("trouble")) for one in told["adapters"]}


def test_adapters_follow_a_list_and_an_engine(beside):
    write, port, url, process = beside
    wait_for("its listener", lambda: ask("GET", f"{url}/ready")[0] == 503)
    engine = Engine(port)
    wait_for("the first adapter", lambda: is_ready(url))
    assert list(engine.adapters) == ["sql"]
    write(law="law", sql="sql", bad="nowhere")
    wait_for("another one", lambda: states(url).get("law") == ("loaded", None))
    state, trouble = wait_for("what is wrong with one", lambda: states(url)["bad"][1] and states(url)["bad"])
    assert state == "fetching" and "nowhere" in trouble
    assert is_ready(url) and engine.log == [("load_lora_adapter", "sql"), ("load_lora_adapter", "law")]
    engine.end()
    wait_for("that the engine is gone", lambda: not is_ready(url))
    engine = Engine(port)
    wait_for("that it has them again", lambda: is_ready(url) and len(engine.adapters) == 2)
    write(law="law")
    wait_for("that one goes", lambda: list(engine.adapters) == ["law"])
    assert is_ready(url) and engine.log[-1] == ("unload_lora_adapter", "sql")
    engine.end()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
