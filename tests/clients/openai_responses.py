"""OpenAI's SDK for Python, over Responses."""

import json
from typing import Annotated, Literal

import openai
from checks import (
    KEY,
    MODEL,
    PATIENCE,
    QUESTION,
    SCHEMA,
    SCRIPTED,
    TRIES,
    URL,
    WEATHER,
    check,
    eventually,
    is_call,
    play,
    refused,
    run,
    running,
)
from pydantic import BaseModel, Field

PLACE = {"base_url": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE}
client = openai.OpenAI(**PLACE, max_retries=0)
ASKED = QUESTION[0]["content"]
TOOL = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
CALL = {"input": WEATHER, "tools": [TOOL], "temperature": 1, "parallel_tool_calls": False}
# Longer than anybody waits, and without a model's work.
LONG = {"model": SCRIPTED, "input": play(texts=["tick "] * 1_000, delay=0.05), "max_output_tokens": 1_000}


def say(asked=client, **fields):
    return asked.responses.create(**{"model": MODEL, "input": ASKED, "temperature": 0} | fields)


def stream(**fields):
    with client.responses.stream(**{"model": MODEL, "input": ASKED, "temperature": 0} | fields) as told:
        return list(told), told.get_final_response()


@check
def a_whole_response():
    answer = say(instructions="Answer in one sentence.", metadata={"of": "france"})
    assert "Paris" in answer.output_text
    assert (answer.status, answer.metadata, answer.instructions) == (
        "completed",
        {"of": "france"},
        "Answer in one sentence.",
    )
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    cut = say(max_output_tokens=1)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@check
def a_streamed_response_is_the_whole_one():
    whole = say()
    events = list(say(stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == whole.output_text
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens


@check
def the_sdks_own_accumulator():
    events, final = stream()
    assert events[-1].type == "response.completed"
    assert final.output_text == say().output_text


@check
async def the_asynchronous_client():
    async with openai.AsyncOpenAI(**PLACE) as asked:
        assert "Paris" in (await say(asked)).output_text
        texts = [event.delta async for event in await say(asked, stream=True) if event.type.endswith("text.delta")]
        assert "Paris" in "".join(texts)


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool
    rivers: Annotated[list[Literal["Seine", "Tiber"]], Field(max_length=2)]


@check
def answers_are_parsed_as_the_class_that_was_asked_for():
    shaped = {"model": MODEL, "input": ASKED, "temperature": 1, "text_format": Capital}
    for _ in range(TRIES):
        assert client.responses.parse(**shaped).output_parsed.city in {"Paris", "Rome"}
        _, final = stream(temperature=1, text_format=Capital)
        assert final.output_parsed.city in {"Paris", "Rome"}


class Weather(BaseModel):
    """Tell the weather of a city."""

    city: Literal["Paris", "Rome"]
    days: Annotated[int, Field(ge=1, le=7)]


@check
def functions_are_called_whole_streamed_and_parsed():
    named = {"type": "function", "name": "get_weather"}
    for _ in range(TRIES):
        (call,) = say(**CALL, tool_choice="required").output
        assert is_call(call.name, json.loads(call.arguments)), call
        events, final = stream(**CALL, tool_choice=named)
        (call,) = final.output
        assert is_call(call.name, json.loads(call.arguments)), call
        pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        assert "".join(pieces) == call.arguments
        asking = CALL | {"tools": [openai.pydantic_function_tool(Weather)["function"] | {"type": "function"}]}
        (call,) = client.responses.parse(model=MODEL, **asking, tool_choice="required").output
        assert is_call("get_weather", json.loads(call.arguments)), call


@check
def a_function_answers_and_the_model_goes_on():
    called = say(**CALL, tool_choice="required")
    (call,) = called.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny in Paris."}
    turns = [{"role": "user", "content": WEATHER}, *called.output, result]
    after = {"tools": [TOOL], "tool_choice": "none"}
    told = say(**after, input=turns)
    assert told.output_text
    assert say(**after, input=[result], previous_response_id=called.id).output_text == told.output_text


@check
def a_stored_response_is_read_and_deleted():
    answer = say()
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    (item,) = client.responses.input_items.list(answer.id)
    assert (item.role, item.content[0].text) == ("user", ASKED)
    client.responses.delete(answer.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        refused(openai.NotFoundError, ask, answer.id)
    refused(openai.NotFoundError, client.responses.retrieve, say(store=False).id)


@check
def one_goes_on_from_another():
    first = say()
    second = say(input="Say that again.", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    listed = [item.content[0].text for item in client.responses.input_items.list(second.id, order="asc")]
    assert listed == [ASKED, first.output_text, "Say that again."]
    # One page an item, as the SDK follows them.
    paged = client.responses.input_items.list(second.id, order="asc", limit=1)
    assert [item.content[0].text for item in paged] == listed


@check
def one_in_the_background_is_waited_for():
    answer = say(background=True)
    assert answer.status in {"queued", "in_progress", "completed"}
    eventually(lambda: client.responses.retrieve(answer.id).status == "completed")
    assert client.responses.retrieve(answer.id).output_text == say().output_text


@check
def one_in_the_background_is_cancelled():
    answer = say(**LONG, background=True)
    eventually(lambda: running() == 1)
    assert client.responses.cancel(answer.id).status == "cancelled"
    eventually(lambda: running() == 0)
    assert client.responses.retrieve(answer.id).status == "cancelled"


@check
def a_stream_is_taken_up_again_where_it_was_left():
    told = say(background=True, stream=True)
    events = [next(told) for _ in range(4)]
    told.close()
    rest = list(client.responses.retrieve(events[0].response.id, stream=True, starting_after=3))
    events += rest
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == say().output_text


@check
def a_conversation_keeps_what_is_said():
    kept = client.conversations.create(metadata={"of": "france"})
    answer = say(conversation=kept.id)
    assert answer.conversation.id == kept.id
    listed = [item.content[0].text for item in client.conversations.items.list(kept.id, order="asc")]
    assert listed == [ASKED, answer.output_text]
    assert client.conversations.delete(kept.id).deleted


@check
def tokens_are_counted_as_they_are_used():
    counted = client.responses.input_tokens.count(model=MODEL, input=ASKED)
    assert counted.input_tokens == say().usage.input_tokens


@check
def the_tokens_of_a_text_are_told_with_their_scores():
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 3, "max_output_tokens": 12}
    whole = say(**asked)
    scores = whole.output[0].content[0].logprobs
    assert bytes(byte for score in scores for byte in score.bytes).decode() == whole.output_text
    # The first is the likeliest, which is what temperature 0 takes.
    assert all(len(score.top_logprobs) == 3 for score in scores)
    assert all(score.top_logprobs[0].token == score.token for score in scores)
    events = list(say(**asked, stream=True))
    told = [score for event in events if event.type == "response.output_text.delta" for score in event.logprobs]
    assert [(score.token, score.logprob) for score in told] == [(score.token, score.logprob) for score in scores]
    assert events[-1].response.output[0].content[0].logprobs == scores
    assert say().output[0].content[0].logprobs == []


@check
def what_is_too_long_is_answered_without_its_oldest_parts():
    old = [{"role": "user", "content": "so " * 12_000}, {"role": "assistant", "content": "Yes."}]
    asked = {"instructions": "Answer in one sentence.", "input": [*old, *QUESTION]}
    assert refused(openai.BadRequestError, say, **asked).code == "context_length_exceeded"
    fresh = say(**asked | {"input": ASKED})
    for answer in (say(**asked, truncation="auto"), stream(**asked, truncation="auto")[1]):
        assert (answer.truncation, answer.output_text) == ("auto", fresh.output_text)
        assert answer.usage.input_tokens == fresh.usage.input_tokens
    kept = client.conversations.create(items=old)
    answer = say(input=ASKED, conversation=kept.id, truncation="auto", instructions="Answer in one sentence.")
    assert answer.output_text == fresh.output_text


@check
def a_thought_comes_back_by_its_encrypted_content():
    """As Codex sends it: nothing is stored, and the item has no content."""
    stateless = {"store": False, "include": ["reasoning.encrypted_content"]}
    thinking = {"model": SCRIPTED, "input": play(thoughts=["hm"], texts=["Paris."])}
    for answer in (say(**thinking, **stateless), stream(**thinking, **stateless)[1]):
        thought, message = answer.output
        assert (thought.content[0].text, bool(thought.encrypted_content)) == ("hm", True)
        sent = {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content}
        turns = [*QUESTION, sent, message, *QUESTION]
        assert say(**stateless, input=turns).output_text
        changed = sent | {"encrypted_content": thought.encrypted_content[:-4] + "AAAA"}
        error = refused(openai.BadRequestError, say, **stateless, input=[*QUESTION, changed, message, *QUESTION])
        assert error.param == "input[1].encrypted_content"
        elsewhere = sent | {"encrypted_content": "gAAAAABoISQ24OyVRYbkYfukdJoqdzWT"}
        assert say(**stateless, input=[*QUESTION, elsewhere, message, *QUESTION]).output_text
    assert say(**thinking).output[0].encrypted_content is None


@check
def a_long_stream_is_known_before_its_end():
    told = say(**LONG, stream=True)
    identity = next(told).response.id
    eventually(lambda: found(identity) == "in_progress")
    told.close()
    eventually(lambda: found(identity) == "cancelled")


def found(identity):
    try:
        return client.responses.retrieve(identity).status
    except openai.NotFoundError:
        return None


@check
def errors_have_classes():
    bad = refused(openai.BadRequestError, say, temperature=3)
    assert (bad.param, bad.code, bad.type) == ("temperature", "invalid_value", "invalid_request_error")
    long = refused(openai.BadRequestError, say, input="so " * 20_000)
    assert long.code == "context_length_exceeded"
    assert refused(openai.BadRequestError, say, tools=[{"type": "web_search"}]).param == "tools[0].type"
    assert refused(openai.AuthenticationError, say, client.with_options(api_key="wrong")).code == "invalid_api_key"
    assert refused(openai.NotFoundError, say, model="gpt-none").code == "model_not_found"
    refused(openai.NotFoundError, client.responses.retrieve, "resp_none")


@check
def who_leaves_in_the_middle_leaves_nothing_behind():
    told = say(**LONG, stream=True)
    next(told)
    eventually(lambda: running() == 1)
    told.close()
    eventually(lambda: running() == 0)


run()
