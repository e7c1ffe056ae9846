"""Records and rows of real answers, held to counts that do not come from the gateway: the client's own clock, the
usage in answers, the engine's counters, and KV token-seconds worked out here from phases."""

import concurrent.futures
import json
import os
import signal
import threading
import time

from conftest import MODEL, cli, http, wait_for

PHASES = ["auth", "read", "route", "queue", "retry", "connect", "prefill", "decode", "client_blocked", "other"]
# Phases are written in microseconds, each rounded down.
ROUNDED_MS = 0.001 * (len(PHASES) + 1)


def admin(stack, path):
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    status, _, body = http("GET", stack.admin_url + path, headers={"Authorization": f"Bearer {key}"})
    assert status == 200, body
    return json.loads(body)


def record_of(stack, request_id):
    """The record of a request, whose phases are the whole of it."""
    found = wait_for(f"the record of {request_id}", lambda: admin(stack, f"/records?id={request_id}")["records"])
    assert len(found) == 1, found
    record = found[0]
    spans = [record[f"t_{phase}_ms"] for phase in PHASES]
    assert min(spans) >= 0, record
    assert abs(sum(spans) - record["t_total_ms"]) <= ROUNDED_MS, record
    if record["ttft_ms"] is not None:
        assert record["ttft_ms"] <= record["t_total_ms"], record
    return record


def row_of(stack, request_id):
    def find():
        rows = admin(stack, "/usage/rows?limit=1000")["rows"]
        return [row for row in rows if row["request_id"] == request_id]
    found = wait_for(f"the row of {request_id}", find)
    assert len(found) == 1, found
    return found[0]


def kv_of(record):
    """KV token-milliseconds of an answer in one attempt, by the formula of docs/guide/usage.md."""
    computed, decode = record["t_connect_ms"] + record["t_prefill_ms"], record["t_decode_ms"]
    mean = record["input"] + record["output"] / 2
    return record["input"] * computed + mean * decode if record["stream"] else mean * (computed + decode)


def near(got, expect, of):
    """Within what rounding phases to a microsecond, and the product to a whole number, can make of it."""
    slack = 1 + 0.003 * (of["input"] + of["output"])
    assert abs(got - expect) <= slack, (got, expect, of)


class Asked:
    """One request, as its client saw it."""

    def __init__(self, stack, request_id, **body):
        client = stack.client()
        options = {"model": MODEL, "max_tokens": 24, "messages": [{"role": "user", "content": "Count to fifty."}], **body}
        headers = {"x-request-id": request_id}
        self.first_ms = self.usage = None
        self.text = ""
        begun = time.monotonic()
        if options.get("stream"):
            options["stream_options"] = {"include_usage": True}
            for chunk in client.chat.completions.create(**options, extra_headers=headers):
                if self.first_ms is None:
                    self.first_ms = 1000 * (time.monotonic() - begun)
                self.usage = chunk.usage or self.usage
                self.text += "".join(choice.delta.content or "" for choice in chunk.choices)
        else:
            answer = client.chat.completions.create(**options, extra_headers=headers)
            self.usage, self.text = answer.usage, answer.choices[0].message.content
        self.total_ms = 1000 * (time.monotonic() - begun)


def test_time_tokens_and_cost_are_those_that_others_count(start):
    stack = start().ready()
    before = stack.engine_metrics()
    sums = {"prompt_tokens": 0, "completion_tokens": 0}
    for stream in [False, True]:
        for number in range(3):
            name = f"phases-{'stream' if stream else 'whole'}-{number}"
            asked = Asked(stack, name, stream=stream, max_tokens=8 + 16 * number)
            record, row = record_of(stack, name), row_of(stack, name)
            # The client's clock runs around the gateway's.
            assert record["t_total_ms"] <= asked.total_ms, (record, asked.total_ms)
            if stream:
                assert record["ttft_ms"] <= asked.first_ms, (record, asked.first_ms)
                assert record["t_prefill_ms"] + record["t_connect_ms"] <= record["ttft_ms"] + ROUNDED_MS
            usage = asked.usage
            assert (record["input"], record["output"]) == (usage.prompt_tokens, usage.completion_tokens), record
            assert (row["input_tokens"], row["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
            assert record["counted"] and record["attempts"] == 1, record
            near(row["kv_token_ms"], kv_of(record), record)
            assert row["overhead_kv_token_ms"] == 0, row
            ran_ms = record["t_connect_ms"] + record["t_prefill_ms"] + record["t_decode_ms"]
            assert row["busy_us"] <= 1000 * (ran_ms + ROUNDED_MS), (row, record)
            sums["prompt_tokens"] += usage.prompt_tokens
            sums["completion_tokens"] += usage.completion_tokens
    after = stack.engine_metrics()
    # The engine's own counters say the same.
    for counter, field in [("vllm:prompt_tokens_total", "prompt_tokens"), ("vllm:generation_tokens_total", "completion_tokens")]:
        assert after[counter] - before.get(counter, 0) == sums[field], counter


def test_who_leaves_pays_what_it_had(start):
    stack = start().ready()
    messages = [{"role": "user", "content": "Count to one hundred."}]
    client = stack.client()
    stream = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=200, stream=True,
                                            extra_body={"ignore_eos": True}, extra_headers={"x-request-id": "phases-left"})
    chunks = iter(stream)
    got = sum(1 for _, chunk in zip(range(10), chunks) if chunk.choices and chunk.choices[0].delta.content)
    stream.close()
    record, row = record_of(stack, "phases-left"), row_of(stack, "phases-left")
    assert record["termination"] == "client_cancel" and got <= record["output"] < 200, record
    near(row["kv_token_ms"], kv_of(record), record)
    wait_for("the engine to be free", lambda: stack.engine_metrics()["vllm:num_requests_running"] == 0)


def test_an_answer_that_goes_on_elsewhere_is_one_account(start):
    stack = start("--replicas", "2").ready()
    wait_for("two engines", lambda: len(stack.engine_pids()) == 2)
    done = {}

    def ask():
        done["asked"] = Asked(stack, "phases-resumed", stream=True, max_tokens=300, temperature=0, seed=1,
                              extra_body={"ignore_eos": True})

    asking = threading.Thread(target=ask)
    asking.start()

    def under_way():
        live = [one for one in admin(stack, "/live")["requests"] if one["request_id"] == "phases-resumed"]
        return live and live[0]["output"] >= 20 and live[0]["replica"]

    replica = wait_for("twenty tokens", under_way)
    urls = {one["name"]: one["url"] for lane in stack.status()["lanes"] for one in lane["replicas"]}
    port = urls[replica].rsplit(":", 1)[1]
    for pid in stack.engine_pids():
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as args:
            if f":{port}\0" in args.read():
                os.kill(pid, signal.SIGKILL)
    asking.join()
    asked, record, row = done["asked"], record_of(stack, "phases-resumed"), row_of(stack, "phases-resumed")
    assert (record["resumed"], record["attempts"]) == (1, 2), record
    assert record["output"] == asked.usage.completion_tokens == 300, record
    assert record["t_total_ms"] <= asked.total_ms and record["ttft_ms"] <= asked.first_ms
    # What it took to get as far again is no decoding, and on nobody's bill.
    assert record["t_retry_ms"] > 0 and row["overhead_kv_token_ms"] > 0, (record, row)
    # Context only grew while tokens came: what it took is what an undisturbed answer takes in that time, give or take
    # that tokens do not come quite evenly on either side of the break.
    at_most = (record["input"] + record["output"]) * (record["t_connect_ms"] + record["t_prefill_ms"] + record["t_decode_ms"])
    at_least = record["input"] * record["t_decode_ms"]
    assert at_least <= row["kv_token_ms"] <= at_most, (record, row)


def shared_route(folder):
    """The built-in model behind a route whose equal requests share one answer, which is kept."""
    path = folder / "shared.yaml"
    model = cli("up", "--print").stdout
    route = ("apiVersion: pilotage.dev/v1alpha1\nkind: Route\nmetadata: { name: shared }\nspec:\n  models: [shared]\n"
             "  targets: [{ model: smollm2 }]\n  merge: { enabled: true }\n  cache: { enabled: true }\n")
    path.write_text(f"{model}\n---\n{route}")
    return str(path)


def test_what_is_shared_or_kept_was_computed_once(start, tmp_path):
    stack = start("-f", shared_route(tmp_path)).ready()
    before = stack.engine_metrics()
    options = {"model": "shared", "stream": True, "max_tokens": 60, "temperature": 0, "extra_body": {"ignore_eos": True}}
    names = [f"phases-shared-{number}" for number in range(3)]
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        asked = list(pool.map(lambda name: Asked(stack, name, **options), names))
    kept = Asked(stack, "phases-kept", **options)
    assert len({one.text for one in [*asked, kept]}) == 1
    after = stack.engine_metrics()
    usage = asked[0].usage
    for counter, expect in [("vllm:prompt_tokens_total", usage.prompt_tokens),
                            ("vllm:generation_tokens_total", usage.completion_tokens)]:
        assert after[counter] - before.get(counter, 0) == expect, counter
    records = [record_of(stack, name) for name in names]
    rows = [row_of(stack, name) for name in names]
    for one, record in zip(asked, records):
        assert record["t_total_ms"] <= one.total_ms and record["ttft_ms"] <= one.first_ms, record
        if record["cache"] == "miss":
            assert (record["input"], record["output"]) == (usage.prompt_tokens, usage.completion_tokens), record
            assert record["itl"], record
    # The engine's work is on one account: that of who asked first, in whose record its phases are.
    carriers = [(record, row) for record, row in zip(records, rows) if row["kv_token_ms"] > 0]
    assert len(carriers) == 1, rows
    record, row = carriers[0]
    assert not record.get("merged"), record
    # A client that takes nothing for a while, or a run that ends a moment before its record, moves it by little.
    assert 0.9 * kv_of(record) <= row["kv_token_ms"] <= 1.1 * kv_of(record) + 1, (record, row)
    assert sum(one["busy_us"] for one in rows if one is not row) == 0, rows
    record, row = record_of(stack, "phases-kept"), row_of(stack, "phases-kept")
    assert (record["cache"], record["cached"], record["output"]) == ("hit", usage.prompt_tokens, 0), record
    assert (row["kv_token_ms"], row["busy_us"]) == (0, 0), row
