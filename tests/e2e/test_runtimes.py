"""Real runtimes of others as processes of `pilotage up`: llama.cpp's server and vLLM, alone and as one fleet with
the embedded engine. Skipped where `./x runtimes` has not installed them."""

import os
import pathlib
import signal
import threading

import openai
import pytest
from conftest import Stack, cli, wait_for
from runtimes import GGUF, LLAMA, VLLM, VLLM_ENV, needs_llama, needs_vllm, tiny_llama

THREADS = 6
EMBEDDED, LLAMA_CPP, TINY = "embedded", "llama-cpp", "tiny"


def model(name, **spec):
    lines = [f"  {key}: {value}" for key, value in spec.items()]
    return "\n".join(["apiVersion: pilotage.dev/v1alpha1", "kind: Model", f"metadata: {{name: {name}}}", "spec:", *lines, ""])


def embedded(**more):
    return model(EMBEDDED, **{"source": GGUF, "parallel": 2, "context": 512, "threads": 1, **more})


def llama(**more):
    return model(LLAMA_CPP, **{"source": GGUF, "runtime": "llama.cpp", "runtimePath": LLAMA.parent, "parallel": 2,
                               "context": 512, "threads": 1, **more})


def vllm(gguf, **more):
    variables = ", ".join(f'{name}: "{value}"' for name, value in VLLM_ENV.items())
    return model(TINY, **{"source": f"file:{tiny_llama(gguf)[0]}", "runtime": "vllm", "runtimePath": VLLM, "parallel": 4,
                          "context": 512, "threads": 1, "runtimeArgs": "[--enforce-eager]",
                          "runtimeEnv": f"{{{variables}}}", **more})


ROUTE = f"""apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {{name: mixed}}
spec:
  targets: [{{model: {EMBEDDED}}}, {{model: {LLAMA_CPP}}}, {{model: {TINY}}}]
"""


@pytest.fixture(scope="module")
def gguf():
    """The weights' file, fetched as any other."""
    pulled = cli("model", "pull", GGUF, "--print-path", timeout=300)
    assert pulled.returncode == 0, pulled.stderr
    return pathlib.Path(pulled.stdout.strip())


@pytest.fixture
def run(tmp_path):
    """Starts stacks with manifests that can be rewritten, and stops them in good order."""
    stacks = []

    def begin(*documents):
        folder = tmp_path / f"stack{len(stacks)}"
        folder.mkdir()
        file = folder / "fleet.yaml"

        def write(*documents):
            file.write_text("---\n".join(documents))

        write(*documents)
        stacks.append(Stack(folder, "-f", str(file)))
        return stacks[-1].ready(), write

    yield begin
    for stack in stacks:
        assert stack.stop() == 0, stack.said()


def processes(stack):
    return stack.status()["processes"]


def ask(stack, name, **more):
    options = {"model": name, "max_tokens": 12, "temperature": 0, "extra_body": {"ignore_eos": True},
               "messages": [{"role": "user", "content": "Tell me a story about a river."}]}
    return stack.client().chat.completions.create(**{**options, **more})


def streamed(stack, name, **more):
    """The text of a stream, how it ended and how many tokens it had."""
    text, ends, usage = "", [], None
    for chunk in ask(stack, name, stream=True, stream_options={"include_usage": True}, **more):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            ends += [choice.finish_reason] if choice.finish_reason else []
    return text, ends, usage and usage.completion_tokens


def check_answers(stack, name):
    """Whole and streamed answers are the same, and end as they shall."""
    whole = ask(stack, name)
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 12)
    assert streamed(stack, name) == (whole.choices[0].message.content, ["length"], 12)
    with pytest.raises(openai.BadRequestError) as too_long:
        ask(stack, name, messages=[{"role": "user", "content": "word " * 2000}])
    assert "context" in str(too_long.value) or "length" in str(too_long.value)


def leaders(stack):
    return {name: state["pid"] for name, state in processes(stack).items() if state["phase"] == "ready"}


def groups():
    """Process groups with anybody alive in them."""
    alive = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if state != "Z":
            alive.add(int(group))
    return alive


@needs_llama
def test_llama_cpp_answers_dies_and_comes_back(run):
    stack, _ = run(llama())
    check_answers(stack, LLAMA_CPP)
    before = leaders(stack)[f"{LLAMA_CPP}-0"]
    os.killpg(before, signal.SIGKILL)
    wait_for("another process", lambda: leaders(stack).get(f"{LLAMA_CPP}-0", before) != before)
    check_answers(stack, LLAMA_CPP)


@needs_llama
def test_a_runtime_does_not_outlive_whoever_started_it(run, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "fleet.yaml").write_text(llama())
    stack = Stack(folder, "-f", str(folder / "fleet.yaml")).ready()
    group = leaders(stack)[f"{LLAMA_CPP}-0"]
    assert group in groups()
    stack.process.kill()
    stack.process.wait()
    wait_for("the runtime to end", lambda: group not in groups())


@needs_llama
def test_what_a_runtime_does_not_know_is_said_before_it_starts(tmp_path):
    def refused(**more):
        (tmp_path / "fleet.yaml").write_text(llama(**more))
        ended = cli("up", "--dry-run", "-f", str(tmp_path / "fleet.yaml"))
        assert ended.returncode == 2, ended.stdout
        return ended.stderr

    assert "--no-such-flag" in refused(runtimeArgs="[--no-such-flag]")
    assert "spec.port" not in refused(runtimeArgs='[--port, "1"]')
    assert "has no program `llama-server`" in refused(runtimePath="/nowhere")


@needs_vllm
def test_vllm_answers_on_two_ranks(run, gguf):
    stack, _ = run(vllm(gguf, parallelism="{tensor: 2}", threads=2))
    check_answers(stack, TINY)
    group = leaders(stack)[f"{TINY}-0"]
    assert stack.stop() == 0, stack.said()
    wait_for("all ranks to end", lambda: group not in groups())


@needs_vllm
def test_adapters_come_and_go_while_vllm_runs(run, gguf):
    _, adapter = tiny_llama(gguf)
    stack, write = run(vllm(gguf, adapterSources=f'{{odd: "file:{adapter}"}}'))
    before, plain = leaders(stack), streamed(stack, TINY)
    odd = streamed(stack, f"{TINY}:odd")
    assert odd[1:] == plain[1:] and odd[0] != plain[0]
    with pytest.raises(openai.NotFoundError):
        ask(stack, f"{TINY}:even")
    write(vllm(gguf, adapterSources=f'{{even: "file:{adapter}"}}'))
    stack.process.send_signal(signal.SIGHUP)

    def changed():
        try:
            return streamed(stack, f"{TINY}:even")
        except openai.OpenAIError:
            return None

    assert wait_for("the other adapter", changed) == odd
    with pytest.raises(openai.NotFoundError):
        ask(stack, f"{TINY}:odd")
    assert leaders(stack) == before and streamed(stack, TINY) == plain


class Load:
    """Threads that ask the mixed route until told to stop, and write down what was not whole."""

    def __init__(self, stack):
        self.stack, self.over, self.lock = stack, threading.Event(), threading.Lock()
        self.done, self.wrong, self.by = 0, [], {}
        self.threads = [threading.Thread(target=self.ask, args=(number,)) for number in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        turn = 0
        while not self.over.is_set():
            turn += 1
            tokens = (8, 20, 40)[turn % 3]
            messages = [{"role": "user", "content": f"Story number {number}-{turn}, please."}]
            try:
                if (turn + number) % 2:
                    text, ends, count = streamed(self.stack, "mixed", max_tokens=tokens, messages=messages)
                else:
                    whole = ask(self.stack, "mixed", max_tokens=tokens, messages=messages)
                    text, ends, count = whole.choices[0].message.content, [whole.choices[0].finish_reason], whole.usage.completion_tokens
                found = (bool(text), ends, count)
            except openai.OpenAIError as error:
                found = repr(error)
            with self.lock:
                self.done += 1
                if found != (True, ["length"], tokens):
                    self.wrong.append((number, turn, found))

    def wait_for_more(self, count):
        until = self.done + count
        wait_for("work to go on", lambda: self.done >= until or self.wrong, 300)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(120)


@needs_llama
@needs_vllm
def test_a_mixed_fleet_loses_nothing_while_one_dies_and_one_changes(run, gguf):
    route = ROUTE
    stack, write = run(embedded(), llama(replicas=2), vllm(gguf), route)
    load = Load(stack)
    load.wait_for_more(20)
    # One dies under its requests.
    dying = f"{LLAMA_CPP}-1"
    before = leaders(stack)[dying]
    os.killpg(before, signal.SIGKILL)
    load.wait_for_more(20)
    wait_for("it to come back", lambda: leaders(stack).get(dying, before) != before)
    # One becomes another version, while it answers.
    write(embedded(), llama(replicas=2), vllm(gguf, runtimeArgs='[--enforce-eager, --seed, "7"]'), route)
    stack.process.send_signal(signal.SIGHUP)
    wait_for("the new version", lambda: f"{TINY}-0.2" in leaders(stack), 400)
    wait_for("the old one to go", lambda: f"{TINY}-0" not in processes(stack))
    load.wait_for_more(20)
    load.stop()
    assert load.wrong == [] and load.done > 60
    served = {replica["name"].rsplit("-", 1)[0] for lane in stack.status()["lanes"] for replica in lane["replicas"]}
    assert served == {EMBEDDED, LLAMA_CPP, TINY}
