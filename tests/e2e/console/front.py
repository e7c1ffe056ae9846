"""Stands in front of a console: its pages come from the real program, the JSON they read from a world.

    python tests/e2e/console/front.py http://127.0.0.1:8081 --port 8090 --world busy
"""

import argparse
import contextlib
import gzip
import http.client
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    from world import World
except ImportError:
    from console.world import World

PASSED = ("content-type", "cache-control", "etag", "location", "set-cookie", "content-encoding", "vary", "content-security-policy", "x-content-type-options",
          "x-frame-options", "referrer-policy", "cross-origin-opener-policy", "cross-origin-resource-policy")


class Front(ThreadingHTTPServer):
    """A server of one world. `delay_s` is how long each answer of the world takes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, console, world, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.console, self.world, self.delay_s, self.broken = console, world, 0.0, False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield self
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Browsers leave in the middle of answers."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        parts = urllib.parse.urlsplit(self.path)
        if parts.path.startswith("/console/try/"):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return self.trial(parts.path)
        if parts.path == "/" or parts.path.startswith("/console"):
            return self.forward()
        self.server.world.asked.append(self.path)
        if not self.has_session():
            return self.say(401, {"error": {"message": "the admin listener needs its own key", "type": "invalid_request_error", "code": None}})
        time.sleep(self.server.delay_s)
        if self.server.broken:
            return self.say(503, {"error": {"message": "the gateway is stopping", "type": "server_error", "code": None}})
        if parts.path == "/records/stream":
            return self.stream()
        body = self.find(parts.path, dict(urllib.parse.parse_qsl(parts.query)))
        if body is None:
            return self.say(404, {"error": {"message": "not found", "type": "invalid_request_error", "code": None}})
        return self.say(200, body)

    def find(self, path, query):
        world = self.server.world
        if path.startswith("/records/"):
            return world.why(urllib.parse.unquote(path.removeprefix("/records/")))
        if path == "/usage/why":
            return world.why_kept(query.get("id", ""))
        known = {"/status": world.status, "/triage": world.triage, "/usage/cost": world.cost, "/usage/budgets": world.budgets, "/ledger": world.ledger}
        asked = {"/records": world.page, "/live": world.live, "/history": world.history, "/usage": world.usage, "/usage/rows": world.rows}
        if path in known:
            return known[path]()
        return asked[path](query) if path in asked else None

    def upstream(self, body):
        address = urllib.parse.urlsplit(self.server.console)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "transfer-encoding")}
        connection.request(self.command, self.path, body, headers)
        return connection.getresponse()

    def forward(self):
        length = int(self.headers.get("Content-Length") or 0)
        response = self.upstream(self.rfile.read(length) if length else None)
        body = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() in PASSED:
                self.send_header(name, value)
        self.finish_with(body)

    def has_session(self):
        address = urllib.parse.urlsplit(self.server.console)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        connection.request("GET", "/console/session", headers={"Host": self.headers["Host"], "Cookie": self.headers.get("Cookie", "")})
        return connection.getresponse().status == 200

    def say(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            text = gzip.compress(text, 1)
            self.send_header("Content-Encoding", "gzip")
        self.finish_with(text)

    def finish_with(self, body):
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, text):
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()

    def begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Request-Id", f"req-{self.server.world.ended():032x}")
        self.end_headers()

    def stream(self):
        self.begin("application/x-ndjson")
        world, sent = self.server.world, self.server.world.ended()
        with contextlib.suppress(OSError):
            self.chunk(json.dumps({"missed": 3}) + "\n")
            for _ in range(600):
                for seq in range(sent + 1, world.ended() + 1):
                    self.chunk(json.dumps(world.record(seq)) + "\n")
                    sent = seq
                time.sleep(0.05)
            self.chunk("")

    def trial(self, path):
        world = self.server.world
        if path.endswith("/v1/models"):
            return self.say(200, {"data": [{"id": name} for name in world.models]})
        self.begin("text/event-stream")
        for word in ["The ", "answer ", "is ", "<b>42</b>", "."]:
            self.chunk("data: " + json.dumps({"choices": [{"delta": {"content": word}}]}) + "\n\n")
        self.chunk("data: " + json.dumps({"choices": [], "usage": {"completion_tokens": 5}}) + "\n\n")
        self.chunk("data: [DONE]\n\n")
        self.chunk("")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("console")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--world", default="busy", choices=["busy", "huge", "hostile", "empty"])
    args = parser.parse_args()
    front = Front(args.console, getattr(World, args.world)(), args.port)
    print(front.url, flush=True)
    front.serve_forever()
