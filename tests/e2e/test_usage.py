"""Usage of a real `pilotage up`: it is what the answers said, and a kill loses no row of an answer that ended."""

import concurrent.futures
import csv
import io
import json
import signal
import subprocess
import threading
import time
from decimal import Decimal

from conftest import BINARY, MODEL, Stack, http, wait_for


def usage(stack, *args):
    done = subprocess.run([BINARY, "usage", *args, "--data-dir", str(stack.folder / "data")],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def admin(stack, path):
    key = (stack.folder / "data" / "admin.key").read_text().strip()
    code, _, body = http("GET", stack.admin_url + path, headers={"Authorization": f"Bearer {key}"})
    return code, json.loads(body)


def ask(stack, number, tokens=4):
    """One answer; its request id and usage once all of it is here."""
    body = {"model": MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": f"Say {number}."}]}
    code, answer, headers = stack.post("/v1/chat/completions", body)
    assert code == 200, answer
    return headers["x-request-id"], answer["usage"]


def all_rows(stack):
    rows, after = [], ""
    while True:
        code, page = admin(stack, f"/usage/rows?limit=1000{after}")
        assert code == 200, page
        rows += page["rows"]
        if page["next"] is None:
            return rows
        after = f"&after={page['next']}"


def test_sums_are_those_of_the_answers(start):
    stack = start().ready()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: ask(stack, number, 2 + number % 5), range(20)))
    wait_for("rows to be stored", lambda: len(all_rows(stack)) >= 20)
    told = json.loads(usage(stack, "--by", "tenant,model,day", "-o", "json"))
    for name, field in [("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")]:
        assert told["total"][name] == sum(used[field] for _, used in answers), name
    assert told["total"]["requests"] == 20
    rows = {row["request_id"]: row for row in all_rows(stack)}
    for request_id, used in answers:
        row = rows[request_id]
        assert (row["input_tokens"], row["output_tokens"]) == (used["prompt_tokens"], used["completion_tokens"])
    table = list(csv.DictReader(io.StringIO(usage(stack, "--by", "model", "-o", "csv"))))
    assert [(row["model"], row["requests"]) for row in table] == [(MODEL, "20")]
    assert "TENANT" in usage(stack) and "REQUEST" in usage(stack, "rows", "--limit", "3")
    assert json.loads(usage(stack, "cost", "-o", "json"))["sums"] is True
    assert admin(stack, "/ledger")[1]["lost_rows"] == 0
    code, wrong = admin(stack, "/usage?by=colour")
    assert code == 400 and "tenant_path" in wrong["error"]["message"], wrong


def test_the_bill_is_the_time_that_the_engine_was_up_and_who_used_it_pays(start):
    # One a second.
    stack = start(env={"PILOTAGE_REPLICA_PRICES": f"{MODEL}=3600"}).ready()
    begun, asked = time.monotonic(), 0.0
    for number in range(4):
        at = time.monotonic()
        ask(stack, number, 30)
        asked += time.monotonic() - at
    # Looks are ten seconds apart.
    wait_for("some looks", lambda: time.monotonic() > begun + 25)
    assert stack.stop() == 0
    up = time.monotonic() - begun
    again = Stack(stack.folder).ready()
    try:
        cost = json.loads(usage(again, "cost", "-o", "json"))
        parts = json.loads(usage(again, "--by", "tenant,hour", "-o", "json"))
    finally:
        again.stop()
    money = lambda one, *names: sum(Decimal(one[name]) for name in names)
    bill, used = money(cost, "bill"), money(cost, "usage")
    assert up - 13 < bill < up + 13, (up, cost)
    # One request at a time: what clients waited is what the engine was busy.
    assert asked * 0.8 - 0.5 < used <= asked + 0.5, (asked, cost)
    assert used + money(cost, "reserved", "idle", "overhead", "unshared") == bill, cost
    assert sum(Decimal(one["total"]) for one in cost["tenants"]) + money(cost, "overhead", "unshared") == bill, cost
    assert abs(sum(Decimal(row["cost"]) for row in parts["rows"]) - used) < Decimal("0.001"), (parts, cost)


def test_a_kill_loses_no_row_of_an_answer_that_ended(start):
    stack = start().ready()
    ended, stop = [], threading.Event()

    def load(worker):
        number = 0
        while not stop.is_set():
            try:
                ended.append(ask(stack, f"{worker}-{number}", 2)[0])
            except (OSError, AssertionError, ValueError):
                return
            number += 1

    workers = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    wait_for("answers", lambda: len(ended) >= 40)
    stack.stop(signal.SIGKILL)
    stop.set()
    for worker in workers:
        worker.join()
    again = Stack(stack.folder).ready()
    try:
        wait_for("the journal to be stored", lambda: admin(again, "/ledger")[1]["behind_rows"] == 0)
        ids = [row["request_id"] for row in all_rows(again)]
        # The gateway that answered is gone, and its ledger says why all the same.
        assert admin(again, f"/records/{ended[0]}")[0] == 404
        why = [BINARY, "why", ended[0], "--data-dir", str(again.folder / "data")]
        told = json.loads(subprocess.run([*why, "-o", "json"], capture_output=True, text=True, timeout=60, check=True).stdout)
        phases = sum(value for name, value in told["record"].items() if name.startswith("t_") and name not in ("t_total_ms",))
        assert told["from"] == "ledger" and abs(phases - told["record"]["t_total_ms"]) < 1, told
        assert told["explanation"]["verdict"].startswith("It took") and told["explanation"]["lines"], told
        said = subprocess.run(why, capture_output=True, text=True, timeout=60, check=True).stdout
        assert told["explanation"]["verdict"] in said and "connect" in said and " in (" in said, said
        unknown = subprocess.run([BINARY, "why", "nobody", *why[3:]], capture_output=True, text=True, timeout=60, check=False)
        assert unknown.returncode == 1 and "in the ledger" in unknown.stdout + unknown.stderr
    finally:
        again.stop()
    assert len(ids) == len(set(ids))
    assert set(ended) <= set(ids), set(ended) - set(ids)
