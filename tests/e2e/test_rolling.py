"""Every engine of a fleet is killed in turn, while clients ask all the time: no request fails."""

import json
import os
import signal
import threading

import openai
from conftest import MODEL, wait_for

THREADS = 6


class Clients:
    """Threads that ask one thing after the other, streams and whole answers, and write down what failed."""

    def __init__(self, stack):
        self.stack, self.over, self.lock = stack, threading.Event(), threading.Lock()
        self.done, self.wrong = 0, []
        self.threads = [threading.Thread(target=self.ask, args=(number,)) for number in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        client, turn = self.stack.client(), 0
        while not self.over.is_set():
            turn += 1
            tokens, stream = (8, 20, 40)[turn % 3], (turn + number) % 2 == 0
            options = {"model": MODEL, "max_tokens": tokens, "temperature": 0, "stream": stream,
                       "messages": [{"role": "user", "content": f"Story number {number}-{turn}, please."}]}
            try:
                found = self.stream(client, options) if stream else self.whole(client, options)
            except openai.OpenAIError as error:
                found = repr(error)
            with self.lock:
                self.done += 1
                if found != ("length", tokens, True):
                    self.wrong.append((number, turn, stream, found))

    @staticmethod
    def whole(client, options):
        answer = client.chat.completions.create(**options, extra_body={"ignore_eos": True})
        return answer.choices[0].finish_reason, answer.usage.completion_tokens, bool(answer.choices[0].message.content)

    @staticmethod
    def stream(client, options):
        text, ends, usage = "", [], None
        for chunk in client.chat.completions.create(
                **options, stream_options={"include_usage": True}, extra_body={"ignore_eos": True}):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                ends += [choice.finish_reason] if choice.finish_reason else []
        return ",".join(ends), usage and usage.completion_tokens, bool(text)

    def wait_for_more(self, count):
        """Until so many more are done, or one failed."""
        until = self.done + count
        wait_for("work to go on", lambda: self.done >= until or self.wrong)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(120)


def replicas(stack):
    return [replica for lane in stack.status()["lanes"] for replica in lane["replicas"]]


def records_of(stack):
    lines = (stack.folder / "up.log").read_text().splitlines(keepends=True)
    parsed = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
    return [line["record"] for line in parsed if "record" in line]


def test_each_engine_killed_in_turn_under_load_fails_no_request(start):
    stack = start("--replicas", "2").ready()

    def both():
        return len(stack.engine_pids()) == 2 and sum(replica["up"] for replica in replicas(stack)) == 2
    wait_for("both engines", both)
    clients = Clients(stack)
    try:
        clients.wait_for_more(6)
        for _ in range(2):
            for pid in stack.engine_pids():
                os.kill(pid, signal.SIGKILL)
                wait_for("it to be gone", lambda pid=pid: pid not in stack.engine_pids())
                wait_for("another in its place", both)
                # Deaths so far apart are deaths of their own.
                clients.wait_for_more(2 * THREADS)
    finally:
        clients.stop()
    assert not clients.wrong, (clients.wrong, stack.said()[-3000:])
    wait_for("nothing to be in flight", lambda: not any(replica["in_flight"] for replica in replicas(stack)), 20)
    records = wait_for("a record of each", lambda: len(found := records_of(stack)) >= clients.done and found, 20)
    assert len(records) == clients.done
    assert all(record["termination"] == "ok" for record in records)
    assert any(record.get("resumed") or record.get("attempts", 1) > 1 for record in records), "nobody lost an engine"
    assert stack.stop() == 0, stack.said()
