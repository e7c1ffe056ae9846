"""The official `anthropic` client, pointed at the gateway, gets what it gets from Anthropic."""

import anthropic
import pytest

from conftest import KEY, MODEL

FRANCE = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
TOOL = {"name": "get_weather", "description": "Weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                         "required": ["city"], "additionalProperties": False}}


@pytest.fixture
def claude(stack):
    return anthropic.Anthropic(base_url=stack.url, api_key=KEY, max_retries=0, timeout=120)


def test_a_message_answers_and_counts(claude):
    message = claude.messages.create(model=MODEL, max_tokens=24, messages=FRANCE,
                                     extra_body={"temperature": 0})
    assert message.type == "message" and message.role == "assistant" and message.model == MODEL
    assert "Paris" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 10
    assert message.usage.output_tokens > 3
    assert message._request_id.startswith("req-")


def test_the_system_prompt_and_stop_sequences_count(claude):
    message = claude.messages.create(model=MODEL, max_tokens=24, messages=FRANCE, stop_sequences=["Paris"],
                                     system=[{"type": "text", "text": "Answer briefly."}],
                                     extra_body={"temperature": 0})
    assert message.stop_reason == "stop_sequence" and message.stop_sequence == "Paris"
    assert all("Paris" not in block.text for block in message.content)


def test_a_stream_joins_to_the_whole_answer(claude):
    whole = claude.messages.create(model=MODEL, max_tokens=16, messages=FRANCE, extra_body={"temperature": 0})
    with claude.messages.stream(model=MODEL, max_tokens=16, messages=FRANCE,
                                extra_body={"temperature": 0}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_max_tokens_cut_the_answer(claude):
    message = claude.messages.create(model=MODEL, max_tokens=2, messages=FRANCE)
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_tool_is_called_and_its_result_taken(claude, stream):
    asked = {"model": MODEL, "max_tokens": 64, "tools": [TOOL],
             "tool_choice": {"type": "tool", "name": "get_weather"},
             "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
             "extra_body": {"temperature": 0}}
    if stream:
        with claude.messages.stream(**asked) as events:
            message = events.get_final_message()
    else:
        message = claude.messages.create(**asked)
    call = message.content[-1]
    assert message.stop_reason == "tool_use" and call.type == "tool_use" and call.name == "get_weather"
    assert isinstance(call.input["city"], str)
    turns = [*asked["messages"], {"role": "assistant", "content": message.content},
             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}]}]
    again = claude.messages.create(model=MODEL, max_tokens=8, tools=[TOOL], messages=turns)
    assert again.content


def test_tokens_are_counted_as_the_engine_counts_them(claude):
    counted = claude.messages.with_raw_response.count_tokens(model=MODEL, messages=FRANCE, system="Be brief.")
    assert counted.headers["x-pilotage-count"] == "exact"
    usage = claude.messages.create(model=MODEL, max_tokens=1, messages=FRANCE, system="Be brief.").usage
    assert counted.parse().input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_errors_are_the_clients_own_classes(stack, claude):
    with pytest.raises(anthropic.NotFoundError) as raised:
        claude.messages.create(model="nonexistent", max_tokens=1, messages=FRANCE)
    assert raised.value.type == "not_found_error" and raised.value.request_id.startswith("req-")
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(model=MODEL, max_tokens=1, messages=FRANCE,
                               tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert "tools[0].type" in str(raised.value)
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(model=MODEL, max_tokens=1, messages=[{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}]}])
    assert "data:" in str(raised.value)
    stranger = anthropic.Anthropic(base_url=stack.url, api_key="pk-wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model=MODEL, max_tokens=1, messages=FRANCE)
