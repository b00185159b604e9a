"""Anthropic's SDK for Python."""

from typing import Literal

import anthropic
from checks import (
    KEY,
    MODEL,
    PATIENCE,
    POOR_KEY,
    QUESTION,
    SCHEMA,
    SCRIPTED,
    TRIES,
    URL,
    WEATHER,
    check,
    eventually,
    is_call,
    is_patient,
    play,
    refused,
    requests_of,
    run,
    running,
)
from pydantic import BaseModel

PLACE = {"base_url": URL, "api_key": KEY, "timeout": PATIENCE}
ALONE = {"disable_parallel_tool_use": True}
client = anthropic.Anthropic(**PLACE, max_retries=0)


def say(asked=client, **fields):
    asking = {"model": MODEL, "messages": QUESTION, "max_tokens": 30, "extra_body": {"temperature": 0}}
    return asked.messages.create(**asking | fields)


def follow(asked=client, **script):
    return asked.messages.create(model=SCRIPTED, messages=play(**script), max_tokens=100)


@check
def a_whole_message():
    answer = say()
    assert "Paris" in answer.content[0].text
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert answer.usage.output_tokens > 1


@check
def tools_are_called_whole_and_streamed():
    asking = {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": WEATHER}]}
    asking |= {"tools": [{"name": "get_weather", "input_schema": SCHEMA, "strict": True}]}
    asking |= {"extra_body": {"temperature": 1}}
    choice = {"type": "any", "disable_parallel_tool_use": True}
    for _ in range(TRIES):
        answer = client.messages.create(**asking, tool_choice=choice)
        (call,) = answer.content
        assert is_call(call.name, call.input), call
        assert answer.stop_reason == "tool_use"
    for _ in range(TRIES):
        with client.messages.stream(**asking, tool_choice={"type": "tool", "name": "get_weather"} | ALONE) as told:
            answer = told.get_final_message()
        (call,) = answer.content
        assert is_call(call.name, call.input), call
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny in Paris."}
    turns = [
        *asking["messages"],
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(**asking | {"messages": turns}, tool_choice={"type": "none"}).content[0].text


@check
def thoughts_between_calls_are_sent_back_with_their_signatures():
    turns = [{"role": "user", "content": WEATHER}]
    for number, thought in enumerate(["hm", "still"]):
        told = follow(thoughts=[thought], texts=["Let me see."]).content
        assert (told[0].type, told[0].thinking, bool(told[0].signature)) == ("thinking", thought, True)
        call = {"type": "tool_use", "id": f"c{number}", "name": "get_weather", "input": {"city": "Paris", "days": 1}}
        result = {"type": "tool_result", "tool_use_id": f"c{number}", "content": "Sunny in Paris."}
        turns += [{"role": "assistant", "content": [*told, call]}, {"role": "user", "content": [result]}]
    asked = {"messages": turns, "tools": [{"name": "get_weather", "input_schema": SCHEMA}]}
    for kind in ("adaptive", "disabled", "between_tools"):
        assert say(**asked, tool_choice={"type": "none"}, thinking={"type": kind}).content
    turns[3]["content"][0] = turns[3]["content"][0].model_dump() | {"thinking": "another"}
    refused(anthropic.BadRequestError, say, **asked, thinking={"type": "adaptive"})


@check
def a_streamed_message_is_the_whole_one():
    whole = say()
    kinds = [event.type for event in say(stream=True)]
    assert [kind for kind in kinds if kind not in ("content_block_delta", "ping")] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    asking = {"model": MODEL, "messages": QUESTION, "max_tokens": 30, "extra_body": {"temperature": 0}}
    with client.messages.stream(**asking) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens


@check
async def the_asynchronous_client():
    async with anthropic.AsyncAnthropic(**PLACE) as asked:
        assert "Paris" in (await say(asked)).content[0].text


@check
def tokens_are_counted_as_they_are_used():
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION, system="You are brief.")
    assert counted.input_tokens == say(system="You are brief.").usage.input_tokens


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool


@check
def answers_are_parsed_as_the_class_that_was_asked_for():
    shaped = {"model": MODEL, "messages": QUESTION, "max_tokens": 100, "extra_body": {"temperature": 1}}
    shaped |= {"output_format": Capital}
    for _ in range(20):
        assert client.messages.parse(**shaped).parsed_output.city in {"Paris", "Rome"}
        with client.messages.stream(**shaped) as stream:
            assert stream.get_final_message().parsed_output.city in {"Paris", "Rome"}


@check
def stop_sequences():
    answer = say(stop_sequences=["Paris"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "Paris")
    assert "Paris" not in answer.content[0].text


@check
def errors_have_classes():
    bad = refused(anthropic.BadRequestError, say, extra_body={"temperature": 3})
    assert bad.body["error"]["type"] == "invalid_request_error"
    refused(anthropic.BadRequestError, say, messages=[{"role": "user", "content": "so " * 20_000}])
    refused(anthropic.AuthenticationError, say, client.with_options(api_key="wrong"))
    refused(anthropic.NotFoundError, say, model="claude-none")
    refused(anthropic.InternalServerError, follow, fault="raise", after=-1)


@check
def both_ways_of_sending_the_key():
    bearer = anthropic.Anthropic(base_url=URL, auth_token=KEY, timeout=PATIENCE, max_retries=0)
    assert "Paris" in say(bearer).content[0].text


@check
def a_limit_is_waited_for_as_the_headers_say():
    poor = client.with_options(api_key=POOR_KEY)
    is_patient(lambda retries: follow(poor.with_options(max_retries=retries)), anthropic.RateLimitError)


@check
def retries_are_as_many_as_asked_for_and_none_where_they_are_in_vain():
    patient = client.with_options(max_retries=2)
    overload = {"fault": "raise", "after": -1, "code": "overloaded"}
    assert requests_of(lambda: refused(anthropic.APIStatusError, follow, patient, **overload)) == 3
    assert requests_of(lambda: refused(anthropic.InternalServerError, follow, patient, fault="raise", after=-1)) == 1


@check
def who_leaves_in_the_middle_leaves_nothing_behind():
    slow = play(texts=["tick "] * 1_000, delay=0.02)
    stream = say(model=SCRIPTED, messages=slow, max_tokens=1_000, stream=True)
    next(stream)
    eventually(lambda: running() == 1)
    stream.close()
    eventually(lambda: running() == 0)


run()
