#!/usr/bin/env python3
"""What an open stream costs: memory of the gateway before, with many streams open that say little, and
after all are closed.

    benches/streams.py [--pilotage target/release/pilotage] [--count 10000] [--only pilotage,envoy,…] [-o json]

Each stream is a connection of its own, from one of several loopback addresses so that there are ports for
all, to a scripted engine that says a token every twenty seconds. Memory is resident memory as /proc counts it; it is
given for each stream as the difference to before. What is left after they are closed is what the allocator
keeps, and what a leak would be: the second time around it is to be the same.
"""

import argparse
import asyncio
import json
import pathlib
import resource
import shutil
import socket
import sys
import time

import proxy
from client import body_of
from proxy import KEY, PROXIES, Engines, Proxy, get, resident_mb, tree

PER_ADDRESS = 5_000
OPENING = 200
SETTLE_S = 2
# Idle connections to engines are closed after half a minute.
CLOSED_S = 40
# Descriptors of a process that are not streams'.
SPARE = 400


def descriptors(pid):
    return sum(len(list(pathlib.Path(f"/proc/{each}/fd").iterdir())) for each in tree(pid))


async def open_one(port, number, body, gate):
    """A connection whose answer has begun."""
    request = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
               f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
    loop = asyncio.get_running_loop()
    async with gate:
        sock = socket.socket()
        # The port is chosen when the other end is known: the same one serves for several.
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        sock.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, request)
        head = await asyncio.wait_for(loop.sock_recv(sock, 4096), 60)
    if b" 200 " not in head[:20]:
        raise RuntimeError(f"stream {number}: {head[:200]!r}")
    return sock


def active(engines):
    return sum(json.loads(get(url + "/scripted/stats"))["active"] for url in engines.urls)


async def round_of(options, child, engines, port):
    """Opens all, and closes them again; memory with all open and after."""
    gate, body = asyncio.Semaphore(OPENING), body_of("Say something, slowly.", 1000, True)
    began = time.monotonic()
    opened = await asyncio.gather(*(open_one(port, number, body, gate) for number in range(options.count)))
    took = time.monotonic() - began
    await asyncio.sleep(SETTLE_S)
    found = {"open": active(engines), "opened_in_s": round(took, 1), "open_mb": round(resident_mb(child.pid), 1),
             "open_descriptors": descriptors(child.pid)}
    for sock in opened:
        sock.close()
    end = time.monotonic() + CLOSED_S
    while active(engines) and time.monotonic() < end:
        await asyncio.sleep(0.5)
    await asyncio.sleep(CLOSED_S)
    return {**found, "left_open": active(engines), "after_mb": round(resident_mb(child.pid), 1),
            "after_descriptors": descriptors(child.pid)}


def measure(options, name):
    engines = Engines(options, count=options.engines, chunks=1000, chunk_gap="20s")
    try:
        # An answer takes hours: whether the proxy is there is asked otherwise.
        standing = Proxy(options, name, engines, "/health/ready" if name == "pilotage" else "/health")
        try:
            pid = standing.child.pid
            port = int(standing.url.rsplit(":", 1)[1])
            before, files = resident_mb(pid), descriptors(pid)
            rounds = [asyncio.run(round_of(options, standing.child, engines, port)) for _ in range(options.rounds)]
            first, last = rounds[0], rounds[-1]
            return {"count": options.count, "before_mb": round(before, 1), "before_descriptors": files, "rounds": rounds,
                    "kb_each": round((first["open_mb"] - before) * 1024 / options.count, 1),
                    "kb_each_left": round((last["after_mb"] - before) * 1024 / options.count, 1)}
        finally:
            standing.stop()
    finally:
        engines.stop()


def table(results):
    lines = ["| | streams | before | open | KB each | closed | closed again | descriptors before, open, closed |",
             "|---|---|---|---|---|---|---|---|"]
    for name, found in results.items():
        first, last = found["rounds"][0], found["rounds"][-1]
        lines.append(f"| {name} | {first['open']:,} | {found['before_mb']} MB | {first['open_mb']} MB | {found['kb_each']} | {first['after_mb']} MB "
                     f"| {last['after_mb']} MB | {found['before_descriptors']}, {first['open_descriptors']:,}, {last['after_descriptors']} |")
    return "\n".join(lines)


def raise_descriptors(count):
    """As many streams as there may be descriptors for: the gateway, which is started from here, needs two for each."""
    wanted = count * 2 + SPARE
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return count
        except (ValueError, PermissionError):
            count = (most - SPARE) // 2
            print(f"at most {most} descriptors may be open: {count} streams", file=sys.stderr)
            wanted = most
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilotage", type=pathlib.Path, default="target/release/pilotage")
    parser.add_argument("--engine", help="the binary that runs the engines, if it is another")
    parser.add_argument("--venv", type=pathlib.Path, default=".venv", help="where Python's proxies are installed")
    parser.add_argument("--smg-venv", type=pathlib.Path)
    parser.add_argument("--only", default="pilotage")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--proxy-core", default="0,1")
    parser.add_argument("--load-core", default="0,1")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    options.smg_venv = options.smg_venv or options.venv
    options.engine = options.engine or options.pilotage
    options.count = raise_descriptors(options.count)
    results = {}
    for name in options.only.split(","):
        if not shutil.which(str(PROXIES[name](options, [], 0)[0][0])):
            print(f"{name}: not installed", file=sys.stderr)
            continue
        try:
            results[name] = measure(options, name)
        except (RuntimeError, OSError, asyncio.TimeoutError) as error:
            print(f"{name}: {error!r}; logs are in {proxy.FOLDER}", file=sys.stderr)
    print(json.dumps(results, indent=1) if options.output == "json" else table(results))


if __name__ == "__main__":
    main()
