#!/usr/bin/env python3
"""Whether the gateway's memory stays flat while everything around it changes: clients with connections of
their own and prompts that nobody sent before, a part of whom go away in the middle; engines that break off
answers, are killed and come back; tenants and keys that are replaced by a reload every minute.

    benches/churn.py [--pilotage target/release/pilotage] [--minutes 60] [--rate 300] [--out churn]

Writes what it sampled every ten seconds (churn.csv), a plot (churn.svg) and what it makes of it (churn.json):
the slope of resident memory over the last half, in KB a minute, with its confidence interval of 95 %. What
lies on a plateau has a slope whose interval holds zero or is small beside what is there. `--read churn.csv` judges
again what was sampled before.
"""

import argparse
import asyncio
import collections
import csv
import hashlib
import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time

from client import ask, body_of
from proxy import Child, cpu_seconds, get
from servers import free_port

ENGINES = 4
TENANTS = 20
# Tenants that are gone after a reload, and as many that are new; the others get another key.
REPLACED = 5
SAMPLE_S = 10
RELOAD_S = 60
KILL_S = 45
DOWN_S = 2
DRAIN_S = 100
WORDS = "river mill town water night bank stone bridge light road house field garden wall tree".split()
# Values of Student's t for 97.5 %, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 15: 2.13, 20: 2.09, 30: 2.04, 60: 2.0}


class Tenants:
    """Who may ask. A key is known for one reload longer than it is used."""

    def __init__(self):
        self.made = 0
        self.now = [self.new() for _ in range(TENANTS)]

    def new(self):
        self.made += 1
        return [f"team-{self.made}", [f"pk-churn-{self.made}-0"]]

    def change(self):
        """The next ones, whose keys are not to be used before they are loaded."""
        kept = [[name, [keys[-1], self.next_key(keys[-1])]] for name, keys in self.now[REPLACED:]]
        return kept + [self.new() for _ in range(REPLACED)]

    @staticmethod
    def next_key(key):
        stem, number = key.rsplit("-", 1)
        return f"{stem}-{int(number) + 1}"


def manifest(ports, tenants):
    endpoints = "".join(f"\n  - {{ url: 'http://127.0.0.1:{port}', parallel: 64 }}" for port in ports)
    head = "apiVersion: pilotage.dev/v1alpha1\nkind: "
    documents = [f"{head}Model\nmetadata: {{ name: scripted }}\nspec:\n  dialect: vllm\n  context: 8192\n  endpoints:{endpoints}\n",
                 f"{head}Route\nmetadata: {{ name: scripted }}\nspec:\n  targets: [ {{ model: scripted }} ]\n"]
    for name, keys in tenants:
        shown = ", ".join(f"{{ name: k{at}, sha256: {hashlib.sha256(key.encode()).hexdigest()} }}" for at, key in enumerate(keys))
        documents.append(f"{head}Tenant\nmetadata: {{ name: {name} }}\nspec:\n  quota: {{ requestsPerMinute: 1000000 }}\n"
                         f"  keys: [ {shown} ]\n")
    return "---\n".join(documents)


class Fleet:
    """Scripted engines, each a process, of which one after the other is killed and comes back."""

    def __init__(self, options):
        self.options = options
        self.ports = [free_port() for _ in range(ENGINES)]
        self.children = [self.start(at) for at in range(ENGINES)]
        self.kills = 0

    def start(self, at):
        command = [self.options.engine, "bench", "engine", "--port", self.ports[at], "--chunks", 12, "--chunk-gap", "15ms",
                   "--first-gap", "20ms"]
        # One breaks off one answer of fifty, one refuses some: what a bad engine does to a good gateway.
        faults = {0: "crash-mid-stream", 1: "unavailable"}
        if at in faults:
            command += ["--fault", faults[at], "--fault-probability", "0.02"]
        return Child(f"engine-{at}", self.options.cores, command, nice=self.options.nice)

    async def churn(self):
        while True:
            await asyncio.sleep(KILL_S)
            at = self.kills % ENGINES
            child = self.children[at]
            child.process.kill()
            child.process.wait()
            child.log.close()
            await asyncio.sleep(DOWN_S)
            self.children[at] = self.start(at)
            self.kills += 1

    def stop(self):
        for child in self.children:
            child.stop()


class Gateway:
    def __init__(self, options, ports, tenants):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pilotage-churn-"))
        self.manifest = self.folder / "churn.yaml"
        self.manifest.write_text(manifest(ports, tenants))
        self.port, self.admin = free_port(), free_port()
        command = [options.pilotage, "up", "-f", self.manifest, "--listen", f"127.0.0.1:{self.port}", "--admin-listen",
                   f"127.0.0.1:{self.admin}", "--data-dir", self.folder / "data", "--drain-timeout", 10]
        # The access log is written as always, and kept by nobody.
        self.child = Child("pilotage", options.cores, command, nice=options.nice, log=os.devnull)
        self.child.wait_for(f"http://127.0.0.1:{self.port}/health/ready")
        self.key = (self.folder / "data" / "admin.key").read_text().strip()

    def status(self):
        return json.loads(get(f"http://127.0.0.1:{self.admin}/status", self.key))

    def series(self):
        text = get(f"http://127.0.0.1:{self.admin}/metrics", self.key).decode()
        return sum(1 for line in text.splitlines() if line and not line.startswith("#"))

    def sample(self):
        folder = pathlib.Path(f"/proc/{self.child.pid}")
        fields = dict(re.findall(r"^(VmRSS|VmData|Threads):\s+(\d+)", (folder / "status").read_text(), re.MULTILINE))
        return {"rss_kb": int(fields["VmRSS"]), "data_kb": int(fields["VmData"]), "threads": int(fields["Threads"]),
                "series": self.series(), "descriptors": len(list((folder / "fd").iterdir()))}

    async def reload(self, text):
        """Whether these manifests were taken over."""
        before = self.status()["config"]["generation"]
        self.manifest.write_text(text)
        os.kill(self.child.pid, signal.SIGHUP)
        for _ in range(100):
            await asyncio.sleep(0.1)
            config = self.status()["config"]
            if config["error"]:
                raise RuntimeError(config["error"])
            if config["generation"] > before:
                return
        raise RuntimeError("a reload was not taken over within ten seconds")


class Churn:
    def __init__(self, options):
        self.options = options
        self.draw = random.Random(options.seed)
        self.tenants = Tenants()
        self.fleet = Fleet(options)
        try:
            self.gateway = Gateway(options, self.fleet.ports, self.tenants.now)
        except BaseException:
            self.fleet.stop()
            raise
        self.counts, self.statuses, self.errors = (collections.Counter() for _ in range(3))
        self.reloads, self.rows, self.begun = 0, [], time.monotonic()
        self.open = set()

    def prompt(self, number):
        """Nobody else's, and of any length up to about 2,000 tokens."""
        return f"{self.options.seed}-{number} " + " ".join(self.draw.choices(WORDS, k=int(math.exp(self.draw.uniform(2.5, 7)))))

    async def one(self, number):
        draw = self.draw
        stream = draw.random() < 0.7
        cut = draw.randint(1, 9) if stream and draw.random() < 0.25 else None
        key = draw.choice(self.tenants.now)[1][-1]
        answer = await ask(self.gateway.port, body_of(self.prompt(number), 12, stream), key=key, cut_after=cut, timeout=120)
        self.statuses[answer.status] += 1
        if answer.error and not answer.cut:
            # Numbers differ from one to the next.
            self.errors[f"{answer.status} " + re.sub(r"\d+", "N", answer.error[-160:])] += 1
        self.counts["cut" if answer.cut else "whole" if answer.whole and answer.status == 200 else "broken"] += 1

    async def load(self, until):
        number, due = 0, time.monotonic()
        while due < until:
            due += self.draw.expovariate(self.options.rate)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            number += 1
            task = asyncio.create_task(self.one(number))
            self.open.add(task)
            task.add_done_callback(self.open.discard)

    async def reload(self):
        while True:
            await asyncio.sleep(RELOAD_S)
            tenants = self.tenants.change()
            # Who is about to go asks no more.
            self.tenants.now = self.tenants.now[REPLACED:]
            await asyncio.sleep(1)
            # Every fifth time an engine is taken away, and put back the next time.
            ports = self.fleet.ports[:-1] if self.reloads % 5 == 4 else self.fleet.ports
            await self.gateway.reload(manifest(ports, tenants))
            self.tenants.now = tenants
            self.reloads += 1

    async def sample(self, file):
        columns = ["seconds", "rss_kb", "data_kb", "series", "descriptors", "threads", "cpu_s", "open", "whole", "cut", "broken", "kills",
                   "reloads", "tenants_made"]
        out = csv.DictWriter(file, columns)
        out.writeheader()
        while True:
            row = {"seconds": round(time.monotonic() - self.begun, 1), **self.gateway.sample(),
                   "cpu_s": cpu_seconds(self.gateway.child.pid), "open": len(self.open),
                   **{name: self.counts[name] for name in ("whole", "cut", "broken")}, "kills": self.fleet.kills,
                   "reloads": self.reloads, "tenants_made": self.tenants.made}
            self.rows.append(row)
            out.writerow(row)
            file.flush()
            await asyncio.sleep(SAMPLE_S)

    async def idle(self):
        """What is left once nobody asks any more."""
        while self.open:
            await asyncio.sleep(0.5)
        await asyncio.sleep(DRAIN_S)
        lane = self.gateway.status()["lanes"][0]
        return {**self.gateway.sample(), "queued": lane["queue"]["requests"],
                "in_flight": sum(replica["in_flight"] for replica in lane["replicas"])}

    async def run(self, file):
        first = self.gateway.sample()
        around = [asyncio.create_task(each) for each in (self.fleet.churn(), self.reload(), self.sample(file))]
        load = asyncio.create_task(self.load(self.begun + self.options.minutes * 60))
        done, _ = await asyncio.wait([load, *around], return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        for each in around:
            each.cancel()
        return {"minutes": self.options.minutes, "rate": self.options.rate, "seed": self.options.seed, "kills": self.fleet.kills,
                "reloads": self.reloads, "tenants_made": self.tenants.made, **self.counts,
                "statuses": dict(self.statuses), "errors": dict(self.errors.most_common(10)), "first": first, "idle": await self.idle(),
                "verdict": verdict(self.rows)}


def student(freedom):
    return next((value for degrees, value in sorted(STUDENT.items(), reverse=True) if degrees <= freedom), 12.71)


def slope_of(times, values):
    """A line through them by least squares: its slope, and half of the interval that holds it with 95 %. What is left
    beside the line is mostly like what was just before: the interval is as wide as the fewer values that are
    worth something make it."""
    count, middle, mean = len(times), statistics.fmean(times), statistics.fmean(values)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (value - mean) for at, value in zip(times, values)) / spread
    left = [value - mean - slope * (at - middle) for at, value in zip(times, values)]
    squares = sum(each * each for each in left)
    alike = sum(one * next_one for one, next_one in zip(left, left[1:])) / squares if squares else 0
    alike = min(max(alike, 0), 0.95)
    worth = max(3.0, count * (1 - alike) / (1 + alike))
    error = math.sqrt(squares / (worth - 2) / spread * count / worth) if worth > 2 else math.inf
    return slope, error * student(int(worth - 2))


def without(values, cause):
    """What is left of values once a line through what causes a part of them is taken off."""
    middle, mean = statistics.fmean(cause), statistics.fmean(values)
    spread = sum((each - middle) ** 2 for each in cause)
    slope = sum((each - middle) * (value - mean) for each, value in zip(cause, values)) / spread if spread else 0
    return [value - slope * (each - middle) for each, value in zip(cause, values)]


def verdict(rows):
    half = [row for row in rows if row["seconds"] >= rows[-1]["seconds"] / 2]
    if len(half) < 6:
        return {"error": "too few samples"}
    minutes = [row["seconds"] / 60 for row in half]
    found = {}
    for name in ("rss_kb", "data_kb", "series", "descriptors", "threads"):
        slope, width = slope_of(minutes, [row[name] for row in half])
        found[name] = {"per_minute": round(slope, 3), "from": round(slope - width, 3), "to": round(slope + width, 3),
                       "mean": round(statistics.fmean(row[name] for row in half), 1),
                       "most": max(row[name] for row in rows)}
    # Requests in flight take memory, and a machine that is busy with other things has more of them.
    busy = [row["descriptors"] for row in half]
    slope, width = slope_of(without(minutes, busy), without([row["rss_kb"] for row in half], busy))
    found["rss_kb_beside_connections"] = {"per_minute": round(slope, 3), "from": round(slope - width, 3), "to": round(slope + width, 3)}
    rss = found["rss_kb"]
    # In an hour, of what is there: what a leak that matters would exceed.
    found["percent_an_hour_at_most"] = round(rss["to"] * 60 / rss["mean"] * 100, 2)
    found["says"] = ("flat" if rss["from"] <= 0 <= rss["to"] else "shrinks" if rss["to"] < 0 else "grows")
    return found


def plot(rows, file):
    """Resident memory and descriptors over time."""
    width, height, left, top = 900, 300, 70, 20
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {2 * height + 3 * top}" font-family="sans-serif" font-size="12">']
    last = max(rows[-1]["seconds"], 1)
    for panel, (name, title, unit) in enumerate((("rss_kb", "resident memory, MB", 1024), ("descriptors", "open descriptors", 1))):
        below = top + panel * (height + top)
        most = max(row[name] for row in rows) / unit * 1.1 or 1
        points = " ".join(f"{left + row['seconds'] / last * (width - left - 20):.1f},"
                          f"{below + (height - 30) * (1 - row[name] / unit / most) + 10:.1f}" for row in rows)
        parts.append(f'<text x="{left}" y="{below}">{title}</text>')
        for step in range(5):
            y = below + 10 + (height - 30) * step / 4
            parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                         f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{most * (1 - step / 4):.0f}</text>')
        parts.append(f'<polyline fill="none" stroke="#1565c0" stroke-width="1.5" points="{points}"/>')
        parts.append(f'<text x="{width - 20}" y="{below + height - 6}" text-anchor="end">{last / 60:.0f} min</text>')
    file.write_text("\n".join(parts + ["</svg>\n"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilotage", type=pathlib.Path, default="target/release/pilotage")
    parser.add_argument("--engine", help="the binary that runs the engines, if it is another")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=300, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default="churn", help="the folder for what comes out")
    parser.add_argument("--read", type=pathlib.Path, help="judge and plot this churn.csv, and run nothing")
    options = parser.parse_args()
    if options.read:
        with open(options.read, newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        plot(rows, options.read.with_suffix(".svg"))
        print(json.dumps(verdict(rows), indent=1))
        return
    options.engine = options.engine or options.pilotage
    if not shutil.which(str(options.pilotage)):
        sys.exit(f"{options.pilotage}: not there")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    options.out.mkdir(parents=True, exist_ok=True)
    churn = Churn(options)
    try:
        with open(options.out / "churn.csv", "w", newline="") as file:
            result = asyncio.run(churn.run(file))
    finally:
        churn.gateway.child.stop()
        churn.fleet.stop()
        shutil.rmtree(churn.gateway.folder, ignore_errors=True)
    plot(churn.rows, options.out / "churn.svg")
    (options.out / "churn.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
