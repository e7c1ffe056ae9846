#!/usr/bin/env python3
"""How well requests are placed, with the real gateway and other routers before scripted engines that take the
time of real ones: the live form of the simulator's scenario `routing/live-reference`.

    benches/live_reference.py [--pilotage target/release/pilotage] [--venv .venv] [--smg-venv .smg]
                              [--only pilotage,smg,…] [--seeds 1,2,3] [-o json]

Four engines of 8 sequences, 200 µs for each token of a prompt that is not cached, 15 ms a step and 4,096 blocks
of 16 tokens. 64 groups of prompts, 2,000 tokens in common and 100 of their own, 64 tokens of answer. A minute at
6 requests a second fills the caches; then 868 requests come within 32 seconds, which is 95 % of what four engines
can do that find every prompt's begin. Times are a Poisson process's, given their number, so that seeds are alike
in how much they ask for. All routers get the same requests of a seed at the same times. A latency counts from when
its request was due; what was refused or did not end is counted beside it. What is found in caches is what
the engines' own counters say of the 868.
"""

import argparse
import asyncio
import json
import pathlib
import random
import shutil
import statistics
import sys
import time

import proxy
from client import ask, body_of, percentile
from proxy import PROXIES, Child, Engines, cpu_seconds, get
from servers import free_port

GROUPS, SHARED, OWN, OUTPUT = 64, 2000, 100, 64
WARM_S, WARM_REQUESTS, SPAN_S, REQUESTS = 60, 360, 32, 868
ENGINE = {"kind": "vllm", "sequences": 8, "prefill": "200us", "decode": "15ms", "step_tokens": 512, "blocks": 4096}
# Four bytes make about a token, for the engines and for those who guess.
TOKEN_BYTES = 4
WORDS = "river mill town water night bank stone bridge light road house field garden wall tree cloud".split()

# The cache-aware policies' thresholds for engines of eight sequences. SMG caps the margin itself, by how many are
# in flight: there its defaults come out best of 4 to 64 requests and 1.1 to 2 times the mean.
TIGHT = ["--cache-threshold", "0.3", "--balance-abs-threshold", "12", "--balance-rel-threshold", "1.2"]
WAYS = {
    "pilotage": ("pilotage", []),
    "smg": ("smg", ["--policy", "cache_aware"]),
    "smg-tight": ("smg", ["--policy", "cache_aware", *TIGHT]),
    "vllm-router": ("vllm-router", ["--policy", "consistent_hash"]),
    "vllm-router-cache-aware": ("vllm-router", ["--policy", "cache_aware", *TIGHT]),
    "sglang-router": ("sglang-router", ["--policy", "cache_aware", *TIGHT]),
    "round-robin": ("smg", ["--policy", "round_robin"]),
}


def text(draw, tokens):
    made = ""
    while len(made) < tokens * TOKEN_BYTES:
        made += draw.choice(WORDS) + " "
    return made[:tokens * TOKEN_BYTES]


def requests(seed):
    """When each request is due, its group and its body."""
    draw = random.Random(seed)
    shared = [f"{draw.getrandbits(64):016x} " + text(draw, SHARED - 5) for _ in range(GROUPS)]
    shared = [each.ljust(SHARED * TOKEN_BYTES)[:SHARED * TOKEN_BYTES] for each in shared]
    due = sorted(draw.uniform(0, WARM_S) for _ in range(WARM_REQUESTS))
    due += sorted(draw.uniform(WARM_S, WARM_S + SPAN_S) for _ in range(REQUESTS))
    for number, at in enumerate(due):
        group = draw.randrange(GROUPS)
        own = f"{number} " + text(draw, OWN)
        yield at, group, body_of(shared[group] + own[:OWN * TOKEN_BYTES], OUTPUT, True)


def cached(engines):
    """Tokens of prompts that the engines looked for, and found."""
    sums = {"queries": 0.0, "hits": 0.0}
    for url in engines.urls:
        for line in get(url + "/metrics").decode().splitlines():
            for name in sums:
                if line.startswith(f"vllm:prefix_cache_{name}_total"):
                    sums[name] += float(line.rsplit(" ", 1)[1])
    return sums


class Router:
    def __init__(self, options, way, engines):
        base, flags = WAYS[way]
        self.port = free_port()
        if base == "pilotage":
            room = f"parallel: {ENGINE['sequences']}, kvTokens: {ENGINE['blocks'] * 16}"
            command, env = PROXIES[base](options, engines.urls, self.port, room, 8192)
        else:
            command, env = PROXIES[base](options, engines.urls, self.port)
        self.child = Child(way, options.cores, command + flags, env, nice=options.nice)
        try:
            url = f"http://127.0.0.1:{self.port}"
            # A router answers before it knows its engines: it is ready when an answer comes through it.
            self.child.wait_for(url + "/v1/chat/completions", key=proxy.KEY, post=body_of("hello", 1, False))
        except RuntimeError:
            self.child.stop()
            raise


async def play(router, engines, seed):
    """The answers of the requests that count, and what the caches found of them."""
    begun, sent, before = time.monotonic() + 1, [], None
    for at, group, body in requests(seed):
        if at >= WARM_S and before is None:
            before = await asyncio.to_thread(cached, engines)
        await asyncio.sleep(max(0, begun + at - time.monotonic()))
        # For those who go by a session: the best that a client could tell them.
        session = [f"X-Session-ID: group-{group}"]
        sent.append(asyncio.create_task(ask(router.port, body, due=begun + at, key=proxy.KEY, headers=session)))
    answers = (await asyncio.gather(*sent))[WARM_REQUESTS:]
    after = cached(engines)
    return answers, (after["hits"] - before["hits"]) / (after["queries"] - before["queries"])


def measure(options, way, seed):
    engines = Engines(options, **ENGINE)
    try:
        router = Router(options, way, engines)
        try:
            cpu = cpu_seconds(router.child.pid)
            answers, found = asyncio.run(play(router, engines, seed))
            whole = [each for each in answers if each.status == 200 and each.whole and each.tokens == OUTPUT]
            first = [each.first_ms() for each in whole]
            refused = sum(1 for each in answers if each.status not in (0, 200))
            return {"p50": percentile(first, 0.5), "p95": percentile(first, 0.95), "p99": percentile(first, 0.99),
                    "found": found, "requests": len(answers), "refused": refused,
                    "unfinished": len(answers) - len(whole) - refused,
                    "errors": sorted({each.error[-200:] for each in answers if each.error})[:3],
                    "cpu_s": round(cpu_seconds(router.child.pid) - cpu, 2)}
        finally:
            router.child.stop()
    finally:
        engines.stop()


def table(results):
    lines = ["| | seeds | TTFT p50 | p95 | p99 | p99 of seeds | found | refused | unfinished |", "|---|---|---|---|---|---|---|---|---|"]
    for way, seeds in results.items():
        runs = list(seeds.values())
        mean = {name: statistics.fmean(run[name] for run in runs) for name in ("p50", "p95", "p99", "found")}
        least, most = min(run["p99"] for run in runs), max(run["p99"] for run in runs)
        refused, unfinished = (sum(run[name] for run in runs) for name in ("refused", "unfinished"))
        lines.append(f"| {way} | {len(runs)} | {mean['p50']:,.0f} | {mean['p95']:,.0f} | {mean['p99']:,.0f} | {least:,.0f}–{most:,.0f} "
                     f"| {mean['found'] * 100:.1f} % | {refused} | {unfinished} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilotage", type=pathlib.Path, default="target/release/pilotage")
    parser.add_argument("--engine", help="the binary that runs the engines, if it is another")
    parser.add_argument("--venv", type=pathlib.Path, default=".venv", help="where Python's routers are installed")
    parser.add_argument("--smg-venv", type=pathlib.Path, help="where SMG is, whose script another router's package replaces")
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--nice", type=int, default=0, help="of the routers and the engines")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument("--json", type=pathlib.Path, help="the file that results are kept in as they come")
    options = parser.parse_args()
    options.smg_venv = options.smg_venv or options.venv
    options.engine, options.load_core = options.engine or options.pilotage, options.cores
    results = {}
    for seed in options.seeds.split(","):
        for way in options.only.split(","):
            base, _ = WAYS[way]
            if not shutil.which(str(PROXIES[base](options, [], 0)[0][0])):
                print(f"{way}: not installed", file=sys.stderr)
                continue
            try:
                result = measure(options, way, int(seed))
            except RuntimeError as error:
                print(f"{way}: {error}", file=sys.stderr)
                continue
            results.setdefault(way, {})[seed] = result
            print(f"seed {seed} {way}: {json.dumps(result)}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    print(json.dumps(results, indent=1) if options.output == "json" else table(results))


if __name__ == "__main__":
    main()
