"""Worlds for the console's pages: what the admin listener would say of a gateway that is busy, huge, hostile or empty.

Records are made from their number alone, so that there can be millions of them.
"""

import time

PHASES = ["auth", "read", "route", "queue", "retry", "connect", "prefill", "decode", "client_blocked", "other"]
STEP_S = 5
KEPT = 10_000

# Names that somebody chose to break a page with.
HOSTILE = [
    "<script>window.pwned=1</script>",
    "\"><img src=x onerror=window.pwned=1>",
    "'-alert(1)-'{{7*7}}${window.pwned=1}",
    "javascript:window.pwned=1",
    "\u202egnp.exe\u202c",
    "__proto__",
    "constructor",
    "a/b?c=d#e&f=%2e%2e%2f",
    "</textarea></title></svg><svg onload=window.pwned=1>",
    "x" * 300,
    "団体\U0001f984 é\u0301" + "\u0300" * 30,
]


class World:
    """What there is: teams (name, parent, weight, part of the load, waiting), models with their replicas."""

    def __init__(self, teams, models, replicas, *, records=5_000_000, rate=20, ready=True):
        self.teams, self.models, self.replicas = teams, models, replicas
        self.records, self.rate, self.ready = records, rate, ready
        self.begun = time.time()
        self.asked = []

    @classmethod
    def busy(cls, replicas=6):
        teams = [("acme", None, 1, 0, 0), ("research", "acme", 1, .62, 0), ("product", "acme", 2, .21, 14), ("support", "acme", 1, .17, 3),
                 ("sandbox", None, 1, 0, 0)]
        return cls(teams, ["llama-3.1-8b", "qwen3-32b", "smollm2"], replicas)

    @classmethod
    def huge(cls):
        teams = [(f"team-{number:03}", None, 1 + number % 5, 1 / 200, number % 7) for number in range(200)]
        return cls(teams, ["llama-3.1-8b", "qwen3-32b"], 500)

    @classmethod
    def hostile(cls):
        teams = [(name, None, 1, 1 / len(HOSTILE), 1) for name in HOSTILE]
        return cls(teams, HOSTILE, 2)

    @classmethod
    def empty(cls):
        return cls([], [], 0, records=0, rate=0, ready=False)

    def ended(self):
        """Requests that have ended by now."""
        return self.records + int((time.time() - self.begun) * self.rate)

    def entitled(self, name):
        team = next(one for one in self.teams if one[0] == name)
        siblings = [one for one in self.teams if one[1] == team[1]]
        above = self.entitled(team[1]) if team[1] else 1
        return above * team[2] / sum(one[2] for one in siblings)

    def leaves(self):
        parents = {parent for _, parent, *_ in self.teams}
        return [team for team in self.teams if team[0] not in parents]

    def path(self, name):
        parents = {team[0]: team[1] for team in self.teams}
        path = [name]
        while parents.get(path[0]):
            path.insert(0, parents[path[0]])
        return "/".join(path)

    def replica(self, lane, number):
        return f"{lane}-{number % max(1, self.replicas)}"

    def record(self, seq):
        leaves = [team for team in self.leaves() if team[3] > 0]
        dice = (seq * 2654435761) % 2**32
        pick, so_far = (dice % 1000) / 1000, 0.0
        team = leaves[-1]
        for one in leaves:
            so_far += one[3]
            if pick < so_far:
                team = one
                break
        lane = self.models[dice // 1000 % len(self.models)]
        slow = seq % 97 == 0
        failed = seq % 61 == 0
        queue = 5200 + dice % 3000 if slow else dice % 40
        spans = [0.1, 0.4, 0.2, queue, 900.0 if seq % 211 == 0 else 0.0, 2.5 + dice % 5, 80.0 + dice % 60, 700.0 + dice % 900,
                 400.0 if seq % 50 == 0 else 0.0, 0.3]
        total = round(sum(spans), 3)
        return {
            "seq": seq, "unix_ms": int(self.begun * 1000 - (self.records - seq) * 1000 / max(1, self.rate)), "request_id": f"req-{seq:032x}",
            "trace_id": f"{dice:032x}", "span_id": f"{dice:016x}", "sampled": True, "tenant": team[0], "tenant_path": self.path(team[0]),
            "path": "/v1/chat/completions", "route": lane, "lane": lane, "version": "sha256:0c5a1f37b2", "model_version": "sha256:0c5a1f37b2",
            "runtime": "vllm", "runtime_version": "0.11.2", "hardware": "h100-sxm", "replica": self.replica(lane, dice), "region": "eu-west",
            "why": "its prefix is cached there (1,024 of 1,180 tokens), 3 run", "band": ["realtime", "standard", "bulk", "batch"][dice % 4],
            "stream": True, "status": 502 if failed else 200, "termination": "upstream_error" if failed else "ok", "attempts": 2 if seq % 211 == 0 else 1,
            "stops": 0, "resumed": 0, "input": 1180, "cached": 1024, "output": 160 + dice % 90, "reasoning": 0, "counted": True,
            **{f"t_{phase}_ms": span for phase, span in zip(PHASES, spans)}, "t_total_ms": total,
            "ttft_ms": round(sum(spans[:7]), 3), "tpot_ms": 5.1, "itl": {"p50_ms": 5.0, "p90_ms": 6.1, "p99_ms": 19.0, "max_ms": 44.0, "stalls": 0, "stalled_ms": 0},
        }

    def fits(self, record, query):
        pairs = {"tenant": "tenant", "model": "lane", "replica": "replica", "band": "band", "termination": "termination", "id": "request_id"}
        return all(name not in query or record[field] == query[name] for name, field in pairs.items()) \
            and record["t_total_ms"] >= float(query.get("min_ms", 0))

    def page(self, query):
        newest = self.ended()
        at = int(query.get("before", newest + 1)) - 1
        limit, found = min(1000, int(query.get("limit", 100))), []
        while at > max(0, newest - KEPT) and len(found) < limit and self.records:
            record = self.record(at)
            if self.fits(record, query):
                found.append(record)
            at -= 1
        return {"records": found, "next": found[-1]["seq"] if len(found) == limit else None}

    def why_kept(self, name):
        """What the ledger has of a request that the gateway forgot: rows say some things by other names."""
        told = self.why(name, 0)
        if told is None or "record" not in told:
            return None
        names = {"input": "input_tokens", "cached": "cached_tokens", "output": "output_tokens"}
        record = {names.get(key, key): value for key, value in told["record"].items()}
        return {"record": record, "explanation": told["explanation"], "from": "ledger"}

    def why(self, name, forgotten=None):
        forgotten = self.ended() - KEPT if forgotten is None else forgotten
        try:
            seq = int(name.removeprefix("req-"), 16)
        except ValueError:
            return next(({"live": one} for one in self.live({})["requests"] if one["request_id"] == name), None)
        if not name.startswith("req-") or not max(0, forgotten) < seq <= self.ended() or not self.records:
            return None
        record = self.record(seq)
        usual = dict(zip(PHASES, [0.1, 0.4, 0.2, 12, 0, 4, 95, 1100, 0, 0.3]))
        most = max(PHASES, key=lambda phase: record[f"t_{phase}_ms"])
        what = {"queue": f"{record['tenant']} was beyond its share while others waited: 14 requests of others went first",
                "decode": f"{record['output']} tokens at 5.1 ms each", "prefill": "156 of 1,180 prompt tokens were computed, the others cached"}
        lines = [{"phase": phase, "ms": record[f"t_{phase}_ms"], "share": record[f"t_{phase}_ms"] / record["t_total_ms"], "usual_ms": usual[phase],
                  **({"what": what[phase]} if phase in what else {"what": ""})} for phase in PHASES]
        verdict = f"It waited {record['t_queue_ms'] / 1000:.1f} s for its turn: its team was over its share." if most == "queue" \
            else f"Nothing unusual: writing {record['output']} tokens took most of the time."
        hint = "Give the team more weight, or add a replica: 2 of 6 were full." if most == "queue" else ""
        return {"record": record, "explanation": {"verdict": verdict, "phase": most, "lines": lines, "notes": [], "hint": hint or None, "compared_with": 812}}

    def live(self, query):
        running, fits = [], {"tenant": "tenant", "model": "lane", "replica": "replica"}
        for number in range(40 if self.models else 0):
            record = self.record(self.records - number)
            phase = "queue" if number % 3 == 0 else "decode"
            so_far = {f"t_{name}_ms": record[f"t_{name}_ms"] for name in PHASES[:4 if phase == "queue" else 8]}
            running.append({"request_id": f"req-live{number}", "tenant": record["tenant"], "tenant_path": record["tenant_path"], "lane": record["lane"],
                            "replica": None if phase == "queue" else record["replica"], "band": record["band"], "stream": True, "age_ms": sum(so_far.values()),
                            "phase": phase, "phases": so_far, "output": 0 if phase == "queue" else number * 3, "why": record["why"]})
        running = [one for one in running if all(name not in query or one[field] == query[name] for name, field in fits.items())]
        return {"total": len(running), "requests": running[: int(query.get("limit", 200))]}

    def status(self):
        def replica(lane, number):
            down = number % 37 == 5
            return {"id": number, "name": self.replica(lane, number), "url": f"http://10.0.{number // 250}.{number % 250}:8000", "up": not down, "places": 32,
                    "in_flight": 0 if down else (number * 7) % 33, "tokens_in_flight": 0 if down else (number * 7919) % 40_000,
                    "last_error": {"kind": "connect", "ago_ms": 42_000} if down else None,
                    "health": "out: 3 of 3 attempts failed" if down else "works", "report_age_ms": 900 + number % 700}

        def lane(at, name):
            tenants = [{"name": team, "parent": parent, "used_share": part or None, "entitled_share": self.entitled(team), "queued": waiting if at == 0 else 0, "usage": int(40_000 * part),
                        "guaranteed": 8_000 if team == "product" else 0, "service": int(9e6 * part)} for team, parent, _, part, waiting in self.teams]
            return {"name": name, "queue": {"requests": sum(team[4] for team in self.leaves()) if at == 0 else 0, "tokens": 18_000, "gap": 5_200},
                    "replicas": [replica(name, number) for number in range(self.replicas)], "tenants": tenants,
                    "speed": {"prompt_token_ms": 0.08, "step_ms": 4.6, "sequence_ms": 0.03, "measured": True}}

        def arm(model, requests, failed, first):
            return {"model": model, "requests": requests, "failed": failed, "error_rate": failed / requests, "input_tokens": 900_000, "output_tokens": 210_000,
                    "ttft_ms": {"p50": first, "p95": first * 3}, "tpot_ms": {"p50": 5, "p95": 8}, "total_ms": {"p50": 900, "p95": 1700}}

        routes = [{"name": self.models[0], "arms": [arm(self.models[0], 9000, 12, 90), arm(self.models[1], 1000, 31, 140)],
                   "canary": {"verdict": "rollback", "percent": 0.0, "why": "3.1 % of its requests failed, 0.1 % of those of the other; 1,000 are enough to tell"}},
                  {"name": self.models[-1], "arms": [arm(self.models[-1], 400, 0, 40)], "canary": None}] if self.models else []
        scaling = {self.models[0]: {"awake": self.replicas, "asleep": 0, "now": self.replicas + 1, "why": "14 requests wait longer than 500 ms", "forMs": 42_000}} if self.models else {}
        return {"version": "0.1.0", "uptime_s": int(time.time() - self.begun) + 86_400, "ready": self.ready,
                "lanes": [lane(at, name) for at, name in enumerate(self.models)], "routes": routes, "scaling": scaling,
                "config": {"generation": 3, "loadedAt": "2027-01-31T12:00:00Z", "error": None}}

    def history(self, query):
        steps = int(query.get("seconds", 900)) // STEP_S
        now = int(time.time()) // STEP_S

        def wave(scale, seed, gap=False):
            def value(at):
                shape = 1 + ((at * 7 + seed * 13) % 11) / 22 + (0.6 if (at // 40 + seed) % 3 == 0 else 0)
                return None if gap and (at + seed) % 90 < 4 else round(scale * shape, 2)
            return [value(now - steps + step) for step in range(steps)]

        lanes = {name: {"requests": wave(30 / (at + 1), at), "errors": wave(0.3, at), "output_tokens": wave(9000 / (at + 1), at), "input_tokens": wave(52_000 / (at + 1), at),
                        "queued": wave(12 if at == 0 else 0, at), "in_flight": wave(60, at), "replicas_up": wave(self.replicas, at),
                        "ttft_p50_ms": wave(95 * (at + 1), at, True), "ttft_p99_ms": wave(420 * (at + 1), at, True), "tpot_p50_ms": wave(5 + at, at, True)}
                 for at, name in enumerate(self.models)}
        tenants = {team[0]: {"tokens": wave(60_000 * team[3], at), "requests": wave(30 * team[3], at)} for at, team in enumerate(self.leaves())}
        return {"step_s": STEP_S, "from_unix_ms": (now - steps) * STEP_S * 1000, "lanes": lanes, "tenants": tenants}

    def triage(self):
        if not self.models:
            return {"usable": {"notes": []}, "verdict": {"is": "not_enough", "missing": ["requests that ended"]}, "findings": [], "blind": [], "attribution": {"requests": 0, "parts": []}, "capacity": {}}
        name = self.models[0]
        finding = {"id": "S01", "name": "slot_bound", "severity": "warning", "title": f"all 32 places in the batch of {name} are taken, and 14 requests wait",
                   "confidence": 0.92, "about": [self.replica(name, 0)], "impact": {"seconds": 812.0, "share": 0.41},
                   "evidence": [{"measure": "places taken", "value": 0.97, "unit": "", "expected": ">= 0.9", "holds": True},
                                {"measure": "KV cache used", "value": 0.38, "unit": "", "expected": "< 0.8", "holds": True},
                                {"measure": "preemptions", "value": 3, "unit": "/ min", "expected": "0", "holds": False}],
                   "fix": {"what": "Let the engine compute more sequences at once.", "changes": [{"place": "vLLM", "text": "--max-num-seqs 64"}, {"place": "manifest", "text": f"spec:\n  batch: 64  # {name}"}],
                           "predicted": "waiting falls from 5.2 s to 0.3 s, each further token takes 6.4 ms instead of 5.1"},
                   "refuted_by": "the queue stays with half of the places free", "runbook": "docs/reference/triage.md#s01", "masks": ["S02"]}
        return {"usable": {"notes": []}, "verdict": {"is": "found", "id": "S01", "title": finding["title"], "confidence": 0.92},
                "findings": [finding, {**finding, "id": "S14", "severity": "critical", "title": f"a replica of {name} does not answer"}],
                "blind": [{"id": "S20", "missing": "GPU clocks"}], "capacity": {},
                "attribution": {"requests": 1200, "parts": [{"phase": "queue", "seconds": 812, "share": 0.41, "each_s": 0.68}, {"phase": "decode", "seconds": 990, "share": 0.5, "each_s": 0.82}]}}

    def usage(self, query):
        keys = [key for key in query.get("by", "tenant").split(",") if key]
        teams, models = [team[0] for team in self.leaves()], self.models
        values = {"tenant": teams, "model": models, "day": ["2027-01-30", "2027-01-31"], "hardware": ["h100-sxm"], "band": ["standard", "bulk"], "version": ["sha256:0c5a"]}
        rows = [{}]
        for key in keys:
            rows = [{**row, key: value} for row in rows for value in values[key]]
        for number, row in enumerate(rows):
            row.update(requests=120 * (number + 1), input_tokens=141_600 * (number + 1), cached_tokens=88_000 * number, output_tokens=19_000 * (number + 1),
                       reasoning_tokens=0, gpu_seconds=410.5 * (number + 1), kv_token_seconds=9e5, price=f"{12.34 * (number + 1):.6f}", cost=f"{7.1 * (number + 1):.6f}")
        total = {key: sum(row[key] for row in rows) for key in ["requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "gpu_seconds"]} if rows and rows[0] else {"requests": 0}
        total["price"] = f"{sum(float(row['price']) for row in rows if 'price' in row):.6f}"
        return {"from": query.get("from"), "to": query.get("to"), "by": keys, "rows": rows if self.models else [], "total": total, "currency": "EUR"}

    def rows(self, query):
        after, limit, found = int(query.get("after", self.records + 1)), min(1000, int(query.get("limit", 200))), []
        seq = after - 1
        while seq > 0 and len(found) < limit:
            record = self.record(seq)
            if self.fits(record, query):
                found.append({"unix_ms": record["unix_ms"], "request_id": record["request_id"], "tenant": record["tenant"], "model": record["lane"], "input_tokens": 1180,
                              "cached_tokens": 1024, "output_tokens": record["output"], "price": "0.012345", "termination": record["termination"]})
            seq -= 1
        return {"rows": found, "next": str(seq + 1) if len(found) == limit else None}

    def cost(self):
        if not self.models:
            return {"bill": "0", "usage": "0", "idle": "0", "reserved": "0", "overhead": "0", "tenants": [], "sums": True, "currency": "EUR"}
        return {"bill": "42.60", "usage": "25.20", "idle": "11.40", "reserved": "3.60", "overhead": "2.40", "tenants": [], "sums": True, "currency": "EUR"}

    def budgets(self):
        return [{"tenant": team[0], "window": "day", "limit": 5_000_000, "spent": 3_100_000, "forecast": 6_200_000, "exhausted_at": int(time.time() * 1000) + 9_000_000}
                for team in self.leaves()[:2]]

    def ledger(self):
        return {"kind": "sqlite", "behind_rows": 0, "journal_bytes": 18_432, "folded_rows": self.records, "lost_rows": 0, "last_error": None, "since": int(self.begun * 1000)}
