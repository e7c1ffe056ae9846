"""Engines die in the middle of answers, and clients notice nothing but a pause."""

import json
import os
import pathlib
import signal
import threading

import openai
import pytest
from conftest import MODEL, http, wait_for

# An answer of which the model is sure: a prompt computed at once is rounded otherwise than token by
# token, and where two words are as likely that decides.
SURE = [{"role": "user", "content": "Count from 1 to 100, separated by commas."}]


def ask(stack, tokens, **more):
    """A greedy answer of that many tokens; a seed keeps prompts from starting at others' cells."""
    options = {"messages": SURE, "model": MODEL, "max_tokens": tokens, "temperature": 0, "seed": 1, **more}
    return stack.client().chat.completions.create(**options, extra_body={"ignore_eos": True})


def all_up(stack, count):
    def check():
        replicas = [replica for lane in stack.status()["lanes"] for replica in lane["replicas"] if replica["up"]]
        return len(replicas) == count and len(stack.engine_pids()) == count and replicas
    return wait_for(f"{count} engines", check)


def engine_at(stack, url):
    """The process that listens there."""
    port = url.rsplit(":", 1)[1]
    args = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in stack.engine_pids()}
    pids = [pid for pid, text in args.items() if f":{port}\0" in text]
    assert len(pids) == 1, args
    return pids[0]


def busy(stack):
    """Where the one request runs."""
    def check():
        return [replica for lane in stack.status()["lanes"] for replica in lane["replicas"] if replica["in_flight"]]
    return wait_for("the request to run", check)[0]


def records(stack):
    lines = [json.loads(line) for line in (stack.folder / "up.log").read_text().splitlines() if line.startswith("{")]
    return [line["record"] for line in lines if "record" in line]


@pytest.mark.parametrize("replicas", [2, 1])
def test_a_stream_whose_engine_is_killed_comes_out_the_same(start, replicas):
    stack = start("--replicas", str(replicas)).ready()
    all_up(stack, replicas)
    whole = ask(stack, 100)
    text, finishes, usages, ids = "", [], [], set()
    stream = ask(stack, 100, stream=True, stream_options={"include_usage": True})
    for at, chunk in enumerate(stream):
        ids.add((chunk.id, chunk.object, chunk.created))
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finishes += [choice.finish_reason] if choice.finish_reason else []
        usages += [chunk.usage] if chunk.usage else []
        # Twice: the second time it is the engine that went on.
        if at in (20, 70):
            os.kill(engine_at(stack, busy(stack)["url"]), signal.SIGKILL)
            if at == 20 and replicas == 2:
                all_up(stack, 2)
    assert text == whole.choices[0].message.content
    assert (finishes, len(usages), len(ids)) == (["length"], 1, 1)
    assert usages[0].completion_tokens == 100 and usages[0].prompt_tokens == whole.usage.prompt_tokens
    record = wait_for("its record", lambda: [each for each in records(stack) if each["resumed"]], 20)[0]
    assert (record["resumed"], record["termination"], len(record["earlier_replicas"])) == (2, "ok", 2)


def test_a_stream_whose_engine_hangs_goes_on_elsewhere(start):
    stack = start("--replicas", "2").ready()
    all_up(stack, 2)
    whole = ask(stack, 60)
    stopped, text = None, ""
    for at, chunk in enumerate(ask(stack, 60, stream=True)):
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        if at == 15:
            stopped = engine_at(stack, busy(stack)["url"])
            os.kill(stopped, signal.SIGSTOP)
    os.kill(stopped, signal.SIGKILL)
    assert text == whole.choices[0].message.content


def test_a_restart_of_all_engines_under_load_loses_nothing(start):
    stack = start("--replicas", "2").ready()
    all_up(stack, 2)
    over, lock, done, wrong = threading.Event(), threading.Lock(), [], []

    def work(number):
        turn = 0
        while not over.is_set():
            turn += 1
            messages = [{"role": "user", "content": f"Story number {number}-{turn}, please."}]
            tokens = (12, 24, 48)[turn % 3]
            try:
                stream = ask(stack, tokens, messages=messages, stream=True, stream_options={"include_usage": True})
                chunks = list(stream)
                ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
                count = chunks[-1].usage.completion_tokens
                with lock:
                    (done if (ends, count) == (["length"], tokens) else wrong).append((number, turn, ends, count))
            except openai.OpenAIError as error:
                with lock:
                    wrong.append((number, turn, repr(error)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    wait_for("work to be done", lambda: len(done) > 6)
    for pid in stack.engine_pids():
        os.kill(pid, signal.SIGKILL)
        wait_for("it to be gone", lambda pid=pid: pid not in stack.engine_pids())
        all_up(stack, 2)
        # What lost its engine twice before it brought anything is held to have killed both.
        before = len(done)
        wait_for("work to go on", lambda before=before: len(done) > before + 12 or wrong)
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert sum(record["resumed"] for record in records(stack)) >= 1
    assert http("GET", stack.url + "/health/ready")[0] == 200
