"""Engines die, many clients come at once, and everything comes back to zero."""

import asyncio
import json
import os
import signal
import threading

import openai

from conftest import KEY, MODEL, http, wait_for

LONG = {"model": MODEL, "messages": [{"role": "user", "content": "Count to a thousand."}],
        "max_tokens": 400, "temperature": 0, "ignore_eos": True}


def test_a_killed_engine_comes_back_and_waiting_requests_are_answered(start):
    stack = start().ready()
    pid = stack.engine_pids()[0]
    answers = []
    # Sent right after the kill: it waits for the new engine instead of failing.
    os.kill(pid, signal.SIGKILL)
    thread = threading.Thread(target=lambda: answers.append(stack.post("/v1/chat/completions", {**LONG, "max_tokens": 4})))
    thread.start()
    thread.join(90)
    assert answers and answers[0][0] == 200, (answers, stack.said())
    assert stack.engine_pids()[0] != pid
    assert stack.stop() == 0, stack.said()


def test_a_stream_that_cannot_go_on_after_its_engine_died_ends_with_an_error_event(start):
    stack = start().ready()
    client = stack.client()
    # A grammar's state is not in the tokens; plain text goes on, see test_resume.py.
    stream = client.chat.completions.create(
        **{key: value for key, value in LONG.items() if key != "ignore_eos"}, stream=True,
        response_format={"type": "json_object"}, extra_body={"ignore_eos": True})
    chunks = iter(stream)
    for _ in range(3):
        next(chunks)
    os.kill(stack.engine_pids()[0], signal.SIGKILL)
    try:
        for _ in chunks:
            pass
        raise AssertionError("the stream ended as if nothing had happened")
    except openai.APIError as error:
        assert error.code == "upstream_disconnected"
    wait_for("the engine to be back", lambda: http("GET", stack.url + "/health/ready")[0] == 200)
    assert stack.post("/v1/chat/completions", {**LONG, "max_tokens": 2})[0] == 200


def test_an_aborting_engine_leaves_its_reason(start):
    stack = start().ready()
    os.kill(stack.engine_pids()[0], signal.SIGABRT)
    wait_for("the crash to be shown", lambda: "SIGABRT" in stack.said(), 30)
    wait_for("the engine to be back", lambda: http("GET", stack.url + "/health/ready")[0] == 200)


def test_engines_do_not_outlive_their_supervisor(start):
    stack = start().ready()
    pid = stack.engine_pids()[0]
    stack.process.kill()
    stack.process.wait()

    def gone():
        try:
            os.kill(pid, 0)
            state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
            return state == "Z"
        except (ProcessLookupError, FileNotFoundError):
            return True
    wait_for("the orphaned engine to end", gone, 20)


def test_two_replicas_survive_the_loss_of_one(start):
    stack = start("--replicas", "2").ready()
    wait_for("both engines", lambda: len(stack.engine_pids()) == 2
             and all(r["up"] for lane in stack.status()["lanes"] for r in lane["replicas"]))
    os.kill(stack.engine_pids()[0], signal.SIGKILL)
    for _ in range(6):
        assert stack.post("/v1/chat/completions", {**LONG, "max_tokens": 2})[0] == 200


def test_interrupt_drains_a_running_request(start):
    stack = start().ready()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(stack.post("/v1/chat/completions", {**LONG, "max_tokens": 150})))
    thread.start()
    wait_for("the request to run", lambda: stack.engine_metrics()["vllm:num_requests_running"] == 1, 30)
    assert stack.stop(signal.SIGINT) == 0, stack.said()
    thread.join(30)
    assert answers[0][0] == 200 and answers[0][1]["usage"]["completion_tokens"] == 150
    assert stack.engine_pids() == []


def test_64_clients_with_cancellations_leave_nothing_behind(stack):
    """Every client gets its answer or its cancellation, and no sequence or KV cell is leaked."""

    async def one(client, number):
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"Tell story number {number}."}],
            max_tokens=24, temperature=0.8, seed=number if number % 2 else None, stream=True,
            stream_options={"include_usage": True}, extra_body={"ignore_eos": True})
        seen = 0
        async for chunk in stream:
            seen += 1
            if number % 3 == 0 and seen == 5:
                await stream.close()
                return "cancelled"
            if chunk.usage:
                return chunk.usage.completion_tokens
        return "no usage"

    async def main():
        async with openai.AsyncOpenAI(base_url=stack.url + "/v1", api_key=KEY, max_retries=0, timeout=300) as client:
            return await asyncio.gather(*(one(client, number) for number in range(64)))

    ends = asyncio.run(main())
    assert [end for number, end in enumerate(ends) if number % 3] == [24] * 42
    assert [end for number, end in enumerate(ends) if number % 3 == 0] == ["cancelled"] * 22

    def idle():
        metrics = stack.engine_metrics()
        return metrics["vllm:num_requests_running"] == 0 and metrics["vllm:num_requests_waiting"] == 0
    wait_for("the engine to be idle", idle, 30)
    lanes = stack.status()["lanes"]
    assert all(replica["in_flight"] == 0 for lane in lanes for replica in lane["replicas"])
    assert all(lane["queue"]["requests"] == 0 for lane in lanes)
    assert stack.engine_metrics()["pilotage_engine_kv_cells_held"] == 0


def test_a_seed_repeats_alone(stack):
    """The same request with a seed, alone, gives the same tokens, whatever ran in between."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Invent a name for a boat and say why. " * 12}],
            "max_tokens": 40, "temperature": 1.0, "seed": 42}
    first = stack.post("/v1/chat/completions", body)[1]
    stack.post("/v1/chat/completions", {**body, "seed": 43})
    again = stack.post("/v1/chat/completions", body)[1]
    assert first["choices"] == again["choices"]
    other = stack.post("/v1/chat/completions", {**body, "seed": 43})[1]
    assert other["choices"] != first["choices"]


def test_prefix_reuse_is_counted_and_reported(stack):
    body = {"model": MODEL, "messages": [
        {"role": "system", "content": "You are a careful assistant. " * 40}, {"role": "user", "content": "Hi"}],
        "max_tokens": 2, "temperature": 0}
    stack.post("/v1/chat/completions", body)
    usage = stack.post("/v1/chat/completions", body)[1]["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 200


def test_no_prompt_or_key_in_any_log(stack):
    marker = "zebra-marmalade-77"
    stack.post("/v1/chat/completions", {**LONG, "max_tokens": 2, "messages": [{"role": "user", "content": marker}]})
    stack.post("/v1/chat/completions", b'{"model": "' + marker.encode() + b'"')
    texts = stack.said() + "".join(
        path.read_text(errors="replace") for path in (stack.folder / "data").rglob("*.log*"))
    assert marker not in texts
    code = json.dumps(texts)
    assert code.count(KEY) <= 2, "the key is shown once, in the banner and its curl line"
