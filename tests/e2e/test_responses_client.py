"""The Responses API of the official `openai` client, pointed at the gateway."""

import openai
import pytest

from conftest import MODEL

FRANCE = "What is the capital of France? Answer in one sentence."
TOOL = {"type": "function", "name": "get_weather", "description": "Weather of a city", "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                       "required": ["city"], "additionalProperties": False}}


def test_a_response_answers_and_counts(client):
    response = client.responses.create(model=MODEL, input=FRANCE, max_output_tokens=24, temperature=0)
    assert response.status == "completed" and response.object == "response"
    assert "Paris" in response.output_text
    assert response.usage.input_tokens > 10 and response.usage.output_tokens > 3
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_stream_ends_with_what_is_kept(client):
    with client.responses.stream(model=MODEL, input=FRANCE, max_output_tokens=24, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text and "Paris" in text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kept = client.responses.retrieve(final.id)
    assert kept.output_text == text and kept.usage == final.usage


def test_a_response_goes_on_from_another(client):
    first = client.responses.create(model=MODEL, input="My name is Ada.", max_output_tokens=12, temperature=0,
                                    instructions="Be brief.")
    second = client.responses.create(model=MODEL, input="What is my name?", previous_response_id=first.id,
                                     max_output_tokens=12, temperature=0)
    whole = client.responses.create(model=MODEL, store=False, max_output_tokens=12, temperature=0, input=[
        {"role": "user", "content": "My name is Ada."}, *first.output,
        {"role": "user", "content": "What is my name?"}])
    assert second.usage.input_tokens == whole.usage.input_tokens
    assert second.previous_response_id == first.id
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(whole.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model=MODEL, input="Hi", previous_response_id=first.id)
    assert raised.value.code == "previous_response_not_found"


def test_a_cut_answer_is_incomplete(client):
    response = client.responses.create(model=MODEL, input=FRANCE, max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_function_is_called_and_its_output_taken(client, stream):
    asked = {"model": MODEL, "input": "What is the weather in Paris?", "tools": [TOOL], "temperature": 0,
             "tool_choice": {"type": "function", "name": "get_weather"}, "max_output_tokens": 64}
    if stream:
        with client.responses.stream(**asked) as events:
            response = events.get_final_response()
    else:
        response = client.responses.create(**asked)
    call = response.output[-1]
    assert call.type == "function_call" and call.name == "get_weather"
    again = client.responses.create(
        model=MODEL, previous_response_id=response.id, tools=[TOOL], max_output_tokens=8,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}])
    assert again.output


def test_the_answer_fits_a_schema(client):
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
              "required": ["city"], "additionalProperties": False}
    response = client.responses.create(
        model=MODEL, input=FRANCE, max_output_tokens=64, temperature=0,
        text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}})
    assert response.output_text.startswith("{") and '"city"' in response.output_text


def test_what_is_not_supported_is_named(client):
    for member, value in [("background", True), ("conversation", "conv_1"),
                          ("tools", [{"type": "web_search"}])]:
        with pytest.raises(openai.BadRequestError) as raised:
            client.responses.create(model=MODEL, input="Hi", **{member: value})
        assert raised.value.param.startswith(member)


def test_apis_that_the_engine_lacks_say_so(client):
    asks = {"speech": lambda: client.audio.speech.create(model=MODEL, voice="a", input="Hi"),
            "transcription": lambda: client.audio.transcriptions.create(model=MODEL, file=("a.wav", b"RIFF"))}
    for feature, ask in asks.items():
        with pytest.raises(openai.BadRequestError) as raised:
            ask()
        assert raised.value.code == "no_model_fits" and feature in str(raised.value)
