"""The official `openai` client, pointed at the gateway, gets what it gets from OpenAI."""

import json
import math

import openai
import pytest

from conftest import KEY, MODEL, wait_for

FRANCE = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def test_chat_answers_and_counts(client):
    answer = client.chat.completions.create(model=MODEL, messages=FRANCE, max_tokens=24, temperature=0)
    choice = answer.choices[0]
    assert "Paris" in choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.object == "chat.completion"
    usage = answer.usage
    assert usage.prompt_tokens > 10 and usage.completion_tokens > 3
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_stream_joins_to_a_whole_answer_and_hides_usage_nobody_asked_for(client):
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=24, temperature=0, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "Paris" in text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_stream_usage_when_asked_for(client):
    chunks = list(client.chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens <= 8
    assert chunks[-1].usage.prompt_tokens > 10


def test_length_limit_says_length(client):
    answer = client.chat.completions.create(model=MODEL, messages=FRANCE, max_tokens=3, temperature=0)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_stop_text_ends_the_answer_and_is_not_part_of_it(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=24, temperature=0, stop=["Paris"])
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" not in answer.choices[0].message.content


def test_several_choices(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=8, n=3, temperature=1.0, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_logprobs(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=4, temperature=0, logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 2
        assert math.isclose(token.top_logprobs[0].logprob, token.logprob, abs_tol=1e-4)
        assert bytes(token.bytes).decode("utf-8", "replace") == token.token


def test_logit_bias_forbids_a_token(client):
    free = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=1,
                                     temperature=0, extra_body={"return_token_ids": True})
    banned = free.choices[0].model_extra["token_ids"][0]
    biased = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=1,
                                       temperature=0, logit_bias={str(banned): -100})
    assert biased.choices[0].text != free.choices[0].text


def test_json_schema(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    for temperature in (0, 1):
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Describe Ada aged 36 as JSON"}],
            max_tokens=60, temperature=temperature, seed=3,
            response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}})
        person = json.loads(answer.choices[0].message.content)
        assert set(person) == {"name", "age"} and isinstance(person["age"], int)
        assert answer.choices[0].finish_reason == "stop"


def test_json_object(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say hello as JSON with the key greeting"}],
        max_tokens=100, temperature=0, response_format={"type": "json_object"})
    text = answer.choices[0].message.content
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert text.lstrip().startswith("{")


TOOL = {"type": "function", "function": {
    "name": "lookup", "description": "Looks a fact up",
    "parameters": {"type": "object", "properties": {"query": {"type": "string", "maxLength": 20}},
                   "required": ["query"], "additionalProperties": False}}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "lookup"}}])
def test_tools(client, choice):
    answer = client.chat.completions.create(
        model=MODEL, messages=FRANCE, tools=[TOOL], tool_choice=choice, max_tokens=60, temperature=0)
    call = answer.choices[0].message.tool_calls[0]
    assert call.type == "function" and call.function.name == "lookup" and call.id
    assert set(json.loads(call.function.arguments)) == {"query"}


def test_tools_streamed_equal_tools_whole(client):
    options = dict(model=MODEL, messages=FRANCE, tools=[TOOL], tool_choice="required", max_tokens=60,
                   temperature=0, seed=1)
    whole = client.chat.completions.create(**options).choices[0]
    name, arguments, finish = "", "", None
    for chunk in client.chat.completions.create(**options, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index == 0
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert (name, json.loads(arguments)) == ("lookup", json.loads(whole.message.tool_calls[0].function.arguments))
    assert finish == whole.finish_reason


def test_tool_results_go_back(client):
    answer = client.chat.completions.create(model=MODEL, max_tokens=16, temperature=0, tools=[TOOL], tool_choice="none", messages=[
        *FRANCE,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": '{"query":"capital"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Paris"}])
    assert answer.choices[0].message.content


def test_completions_text_and_tokens(client):
    options = dict(model=MODEL, max_tokens=5, temperature=0, extra_body={"return_token_ids": True})
    text = client.completions.create(prompt="The capital of France is", **options).choices[0]
    ids = client.completions.create(prompt=text.model_extra["prompt_token_ids"], **options).choices[0]
    assert "Paris" in text.text
    assert ids.text == text.text
    assert len(text.model_extra["token_ids"]) == 5


def test_completions_stream_and_echo(client):
    chunks = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=5,
                                       temperature=0, stream=True)
    assert "Paris" in "".join(chunk.choices[0].text for chunk in chunks)
    echoed = client.completions.create(model=MODEL, prompt="One two", max_tokens=1, temperature=0, echo=True)
    assert echoed.choices[0].text.startswith("One two")


def test_embeddings(client):
    texts = ["The cat sits on the mat.", "A cat is sitting on a mat.", "Interest rates rose in March."]
    for encoding in ("float", openai.NOT_GIVEN):  # the client asks for base64 by default
        answer = client.embeddings.create(model=MODEL, input=texts, encoding_format=encoding)
        first, second, third = (item.embedding for item in answer.data)
        assert len(first) == 576 and answer.usage.prompt_tokens > 15
        dot = lambda a, b: sum(x * y for x, y in zip(a, b))
        assert math.isclose(dot(first, first), 1, abs_tol=1e-3)
        assert dot(first, second) > dot(first, third)


def test_models(client):
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_errors_are_the_clients_own(stack, client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nope", messages=FRANCE)
    assert unknown.value.code == "model_not_found" and MODEL in str(unknown.value)
    with pytest.raises(openai.BadRequestError) as cold:
        client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=-3)
    assert cold.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 6000}])
    assert long.value.code == "context_length_exceeded" and "2048" in str(long.value)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=stack.url + "/v1", api_key="pk-wrong", max_retries=0).models.list()


def test_cancelling_a_stream_frees_the_engine(stack, client):
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Count to a thousand."}],
        max_tokens=1500, temperature=0, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    idle = lambda: stack.engine_metrics()["vllm:num_requests_running"] == 0
    wait_for("the cancelled request to leave the engine", idle, 20)


def test_raw_responses_carry_a_request_id(client):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=FRANCE, max_tokens=1, extra_headers={"x-request-id": "mine-42"})
    assert raw.headers["x-request-id"] == "mine-42"
    assert raw.parse().usage.completion_tokens == 1


def test_async_clients_in_parallel(stack):
    import asyncio

    async def main():
        async with openai.AsyncOpenAI(base_url=stack.url + "/v1", api_key=KEY, max_retries=0, timeout=120) as client:
            jobs = [client.chat.completions.create(model=MODEL, messages=FRANCE, max_tokens=16, temperature=0)
                    for _ in range(8)]
            return await asyncio.gather(*jobs)

    answers = asyncio.run(main())
    assert all("Paris" in answer.choices[0].message.content for answer in answers)
