"""Shares on the real engine: what tenants of weights 1 and 3 receive, how soon somebody in a hurry is
answered by an engine full of bulk work, and whether paused answers come out the same.

    python3 benches/fair_share.py [--binary target/release/pilotage] [--seconds 60] [-o json]

Starts `pilotage up` with the built-in model on this machine and talks to it as clients do. Needs
nothing but Python 3 and the binary. Ratios, not times, are what to look at: machines differ.
"""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

WORDS = ("the river ran past the old mill and the people of the town came down to see what the "
         "water had brought them in the night while the children played on the bank").split()


def key_of(name):
    return f"pk-bench-{name}"


def tenant(name, weight):
    digest = hashlib.sha256(key_of(name).encode()).hexdigest()
    return (f"apiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata:\n  name: {name}\nspec:\n"
            f"  weight: {weight}\n  highestBand: realtime\n  keys:\n  - name: bench\n    sha256: {digest}\n")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Up:
    """A running `pilotage up` with these tenants."""

    def __init__(self, binary, folder, tenants, parallel=8):
        pathlib.Path(folder).mkdir()
        printed = subprocess.run([binary, "up", "--print"], capture_output=True, text=True, check=True).stdout
        printed = printed.replace("parallel: 8", f"parallel: {parallel}")
        manifest = pathlib.Path(folder) / "fair.yaml"
        manifest.write_text("---\n".join([printed, *(tenant(name, weight) for name, weight in tenants)]))
        self.port, admin = free_port(), free_port()
        self.log = open(pathlib.Path(folder) / "up.log", "wb")
        self.process = subprocess.Popen(
            [binary, "up", "-f", str(manifest), "--listen", f"127.0.0.1:{self.port}", "--admin-listen",
             f"127.0.0.1:{admin}", "--data-dir", str(pathlib.Path(folder) / "data")],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env={**os.environ, "PILOTAGE_LOG": "warn"})
        self.admin, self.folder, self.open = admin, pathlib.Path(folder), set()
        while self.get(self.port, "/health/ready") != 200:
            if self.process.poll() is not None:
                sys.exit(f"`pilotage up` ended early, see {folder}/up.log")
            time.sleep(0.05)

    @staticmethod
    def get(port, path):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None

    def status(self):
        key = (self.folder / "data" / "admin.key").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", "/status", headers={"Authorization": f"Bearer {key}"})
        return json.loads(connection.getresponse().read())

    def ask(self, name, prompt, tokens, band="standard", on_token=None, stop=None, **more):
        """Streams one answer; text, seconds to the first token, usage."""
        body = {"model": "smollm2", "stream": True, "temperature": 0, "max_tokens": tokens, "ignore_eos": True,
                "messages": [{"role": "user", "content": prompt}], "stream_options": {"include_usage": True}, **more}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.connect()
        if stop is not None:
            self.open.add(connection.sock)
        begun = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {
            "Authorization": f"Bearer {key_of(name)}", "Content-Type": "application/json", "x-pilotage-band": band})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {response.read().decode()}")
        text, first, usage = "", None, {}
        for line in response:
            if stop is not None and stop.is_set():
                break
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise RuntimeError(chunk)
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                if piece:
                    first = first or time.monotonic() - begun
                    text += piece
                    if on_token:
                        on_token()
        connection.close()
        return text, first, usage

    def cut(self, over, threads):
        """Ends work that goes on for ever: its clients leave, wherever they are."""
        over.set()
        while any(thread.is_alive() for thread in threads):
            for sock in list(self.open):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            time.sleep(0.05)
        self.open.clear()
        while any(replica["in_flight"] for replica in self.status()["lanes"][0]["replicas"]):
            time.sleep(0.05)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)


def prompt_of(draw, words):
    return f"{draw.randrange(10**9)} " + " ".join(draw.choice(WORDS) for _ in range(words))


def shares(up, seconds, clients=12):
    """Two tenants, both always with more to do than they get: what each receives, as a client counts it.

    Prompts of three lengths and answers of three, the same mixture for both. Service is prompt tokens
    (a tenth for cached ones) and twice the answer's tokens, the gateway's own default cost.
    """
    received, lock, over = {"one": [], "three": []}, threading.Lock(), threading.Event()
    mixture = [(words, tokens) for words in (5, 30, 120) for tokens in (16, 48, 96)]

    def work(name, seed):
        draw, turn = random.Random(f"{name}{seed}"), seed
        while not over.is_set():
            words, tokens = mixture[turn % len(mixture)]
            turn += 1
            times = []
            try:
                _, _, usage = up.ask(name, prompt_of(draw, words), tokens, on_token=lambda: times.append(time.monotonic()))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                time.sleep(1)
                continue
            cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
            prompt = usage["prompt_tokens"] - 0.9 * cached
            with lock:
                received[name] += [(times[0], 0, prompt), *((at, 1, 2) for at in times)]

    threads = [threading.Thread(target=work, args=(name, at)) for at in range(clients) for name in received]
    for thread in threads:
        thread.start()
    # Both lines are full before anything counts.
    time.sleep(8)
    begun, gap, running = time.monotonic(), 0, 0
    while time.monotonic() < begun + seconds:
        time.sleep(0.25)
        lane = up.status()["lanes"][0]
        gap = max(gap, lane["queue"]["gap"])
        running = max(running, sum(replica["tokens_in_flight"] for replica in lane["replicas"]))
    end = time.monotonic()
    over.set()
    for thread in threads:
        thread.join()
    counts = {name: [(tokens, cost) for at, tokens, cost in rows if begun <= at < end]
              for name, rows in received.items()}
    tokens = {name: sum(row[0] for row in rows) for name, rows in counts.items()}
    service = {name: sum(row[1] for row in rows) for name, rows in counts.items()}
    return {"tokens_one": tokens["one"], "tokens_three": tokens["three"],
            "tokens_ratio": tokens["three"] / max(tokens["one"], 1),
            "service_one": round(service["one"]), "service_three": round(service["three"]),
            "service_ratio": service["three"] / max(service["one"], 1),
            # Theorem 4.8 of the VTC paper: without preemption no scheduler stays below w_q·M.
            "gap_max_weighted_tokens": gap, "floor_without_preemption": 2 * running}


def urgency(up, rounds=15):
    """Time to the first token of somebody in a hurry, on an idle engine and on one full of bulk work."""
    draw = random.Random(7)
    idle = [up.ask("three", prompt_of(draw, 20), 4, "realtime")[1] for _ in range(rounds)]
    over = threading.Event()

    def bulk(seed):
        local = random.Random(seed)
        while not over.is_set():
            try:
                up.ask("one", prompt_of(local, local.choice([5, 120, 400])), 200, "bulk", stop=over)
            except (RuntimeError, OSError, http.client.HTTPException, ValueError) as error:
                if not over.is_set():
                    print(error, file=sys.stderr)

    threads = [threading.Thread(target=bulk, args=(at,), daemon=True) for at in range(24)]
    for thread in threads:
        thread.start()
    time.sleep(4)
    busy = []
    for _ in range(rounds):
        busy.append(up.ask("three", prompt_of(draw, 20), 4, "realtime")[1])
        time.sleep(draw.uniform(0.2, 0.7))
    up.cut(over, threads)
    median = statistics.median
    return {"idle_ms": round(median(idle) * 1000, 1), "busy_ms": round(median(busy) * 1000, 1),
            "busy_worst_ms": round(max(busy) * 1000, 1), "ratio": median(busy) / median(idle)}


def identity(up, answers=6):
    """Greedy answers on an engine with one place, alone and while urgent requests take that place again
    and again: cells that are put aside and brought back are the same. (On an engine with several
    places the shape of the batch changes low-order bits of every answer, paused or not.)"""
    draw = random.Random(11)
    prompts = [prompt_of(draw, draw.choice([5, 40, 90])) for _ in range(answers)]

    def answer(prompt):
        # A seed keeps prompts from starting at cells of the run before.
        return up.ask("one", prompt, 100, seed=1)[0]

    alone, over, pauses = [answer(prompt) for prompt in prompts], threading.Event(), []

    def hurry():
        local = random.Random("hurry")
        while not over.is_set():
            up.ask("three", prompt_of(local, 10), 8, "realtime")
            pauses.append(1)
            time.sleep(0.05)

    urgent = threading.Thread(target=hurry, daemon=True)
    urgent.start()
    busy = [answer(prompt) for prompt in prompts]
    over.set()
    urgent.join(60)
    return {"answers": answers, "identical": sum(one == two for one, two in zip(alone, busy)),
            "urgent_requests_between": len(pauses)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/pilotage")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tenants = [("one", 1), ("three", 3)]
        up = Up(args.binary, f"{folder}/eight", tenants)
        try:
            found = {"urgency": urgency(up), "shares": shares(up, args.seconds)}
        finally:
            up.end()
        up = Up(args.binary, f"{folder}/one", tenants, parallel=1)
        try:
            found["identity"] = identity(up)
        finally:
            up.end()
    if args.output == "json":
        print(json.dumps(found, indent=2))
        return
    for part, rows in found.items():
        for name, value in rows.items():
            print(f"{part:10} {name:26} {value:.3f}" if isinstance(value, float) else f"{part:10} {name:26} {value}")


if __name__ == "__main__":
    main()
