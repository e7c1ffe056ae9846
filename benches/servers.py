"""Starts the servers under test and sends them streams of completions, counting tokens by the clock.

Only the standard library, one thread and plain sockets, so that the client costs both sides the
same and little.
"""

import asyncio
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ENGINE_KEY = "bench-" + "0" * 32


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child process with an OpenAI-shaped completions endpoint."""

    def __init__(self, name, command, port, path="/health", key=None, model="m", env=None):
        self.name, self.port, self.key, self.model = name, port, key, model
        self.log = tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log", delete=False)
        started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(env or {})})
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"{name} ended with {self.process.returncode}; see {self.log.name}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                pass
            time.sleep(0.01)
        self.ready_s = time.monotonic() - started

    def resident_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def prompt(seed, tokens):
    """Token ids that no other prompt starts with, so that no prefix cache helps."""
    chooser = random.Random(seed)
    return [chooser.randrange(1000, 40000) for _ in range(tokens)]


async def complete(server, prompt_tokens, output_tokens, seed, path="/v1/completions", body=None):
    """One streamed completion: when it was sent, when each event came."""
    body = body or {"model": server.model, "prompt": prompt(seed, prompt_tokens), "max_tokens": output_tokens,
                    "temperature": 0, "stream": True, "ignore_eos": True, "cache_prompt": False}
    data = json.dumps(body).encode()
    authorization = f"Authorization: Bearer {server.key}\r\n" if server.key else ""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    sent = time.perf_counter()
    writer.write((f"POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\n"
                  f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n").encode() + data)
    events, status = [], await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"{server.name}: {status!r} {await reader.read()!r}")
    while line := await reader.readline():
        if line.startswith(b"data: {") and (b'"text":"' in line or b'"content":"' in line):
            events.append(time.perf_counter())
        if line.startswith(b"data: [DONE]"):
            break
    writer.close()
    return sent, events


async def together(server, parallel, prompt_tokens, output_tokens, seed):
    return await asyncio.gather(*(complete(server, prompt_tokens, output_tokens, f"{seed}-{each}")
                                  for each in range(parallel)))


def decode_rate(server, parallel, output_tokens, seed):
    """Tokens per second of all streams together, from when every stream has its first token."""
    runs = asyncio.run(together(server, parallel, 8, output_tokens, seed))
    begin = max(events[0] for _, events in runs)
    end = max(events[-1] for _, events in runs)
    tokens = sum(1 for _, events in runs for at in events if at > begin)
    return tokens / (end - begin)


def prefill_rate(server, parallel, prompt_tokens, seed):
    """Prompt tokens per second until every stream has its first token."""
    runs = asyncio.run(together(server, parallel, prompt_tokens, 1, seed))
    return parallel * prompt_tokens / (max(events[0] for _, events in runs) - min(sent for sent, _ in runs))
