#!/usr/bin/env python3
"""What the gateway costs: time to first token through it beside the engine asked directly, its
memory when idle, and the time from `pilotage up` to ready.

    benches/gateway_overhead.py [--pilotage PATH] [--requests N]

Requests alternate between the two ways, so that a noisy moment hits both.
"""

import argparse
import asyncio
import json
import pathlib
import statistics
import tempfile
import types
import urllib.request

from servers import Server, complete, free_port, prompt

KEY = "pk-bench"


def get(url, key):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def first_token_ms(server, seed):
    body = {"model": "smollm2", "prompt": prompt(seed, 16), "max_tokens": 2, "temperature": 0, "stream": True,
            "ignore_eos": True}
    sent, events = asyncio.run(complete(server, 0, 0, seed, body=body))
    return (events[0] - sent) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilotage", default="target/release/pilotage")
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pilotage-bench-"))
    port, admin = free_port(), free_port()
    gateway = Server("up", [options.pilotage, "up", "--listen", f"127.0.0.1:{port}", "--admin-listen",
                            f"127.0.0.1:{admin}", "--data-dir", str(folder)], port, path="/health/ready", key=KEY,
                     env={"PILOTAGE_API_KEY": KEY, "PILOTAGE_LOG": "warn"})
    try:
        idle_mb = gateway.resident_mb()
        lane = get(f"http://127.0.0.1:{admin}/status", (folder / "admin.key").read_text())["lanes"][0]
        engine_port = int(lane["replicas"][0]["url"].rsplit(":", 1)[1])
        engine = types.SimpleNamespace(name="engine", port=engine_port, key=(folder / "engine.key").read_text(), model="smollm2")
        times = {"direct": [], "through": []}
        for number in range(options.requests + 10):
            ways = [("direct", engine), ("through", gateway)]
            for way, server in ways if number % 2 else ways[::-1]:
                taken = first_token_ms(server, f"{way}-{number}")
                if number >= 10:
                    times[way].append(taken)
        after_mb = gateway.resident_mb()
    finally:
        gateway.stop()
    direct, through = statistics.median(times["direct"]), statistics.median(times["through"])
    print(json.dumps({
        "ttft_direct_ms": round(direct, 3), "ttft_through_ms": round(through, 3), "added_ms": round(through - direct, 3),
        "idle_mb": round(idle_mb, 1), "after_mb": round(after_mb, 1), "up_to_ready_s": round(gateway.ready_s, 3),
    }, indent=1))


if __name__ == "__main__":
    main()
