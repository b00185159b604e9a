"""OpenAI's SDK for Python."""

import json
from typing import Annotated, Literal

import openai
from checks import (
    KEY,
    MANY,
    MODEL,
    PATIENCE,
    POOR_KEY,
    PROMPT,
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
from pydantic import BaseModel, Field

PLACE = {"base_url": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE}
client = openai.OpenAI(**PLACE, max_retries=0)


def say(asked=client, **fields):
    return asked.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "temperature": 0} | fields)


def follow(asked=client, **script):
    return asked.chat.completions.create(model=SCRIPTED, messages=play(**script))


@check
def a_whole_chat():
    answer = say(max_completion_tokens=30)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@check
def a_streamed_chat_is_the_whole_one():
    *chunks, usage = say(stream=True, stream_options={"include_usage": True})
    whole = say()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert (usage.choices, usage.usage.completion_tokens) == ([], whole.usage.completion_tokens)
    assert len(chunks) > 3


@check
def the_sdks_own_accumulator():
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, temperature=0) as stream:
        assert "Paris" in "".join(event.delta for event in stream if event.type == "content.delta")
        assert "Paris" in stream.get_final_completion().choices[0].message.content


@check
async def the_asynchronous_client():
    async with openai.AsyncOpenAI(**PLACE) as asked:
        assert "Paris" in (await say(asked)).choices[0].message.content
        texts = [chunk.choices[0].delta.content or "" async for chunk in await say(asked, stream=True)]
        assert "Paris" in "".join(texts)


@check
def completions():
    fields = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    answer = client.completions.create(**fields, logprobs=1)
    assert "Paris" in answer.choices[0].text
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens == 8
    streamed = client.completions.create(**fields, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


@check
def logprobs_several_answers_and_stop():
    answer = say(logprobs=True, top_logprobs=2, n=2, max_completion_tokens=4, stop=["Paris"])
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert len(answer.choices[1].logprobs.content[0].top_logprobs) == 2
    assert "Paris" not in say(stop=["Paris"]).choices[0].message.content


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool
    rivers: Annotated[list[Literal["Seine", "Tiber"]], Field(max_length=2)]


@check
def answers_are_parsed_as_the_class_that_was_asked_for():
    shaped = {"model": MODEL, "messages": QUESTION, "temperature": 1, "response_format": Capital}
    for _ in range(20):
        assert client.chat.completions.parse(**shaped).choices[0].message.parsed.city in {"Paris", "Rome"}
        with client.chat.completions.stream(**shaped) as stream:
            assert stream.get_final_completion().choices[0].message.parsed.city in {"Paris", "Rome"}


@check
def models():
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL


@check
def tools_are_called_whole_and_streamed():
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA, "strict": True}}
    asking = {"messages": [{"role": "user", "content": WEATHER}], "tools": [tool], "temperature": 1}
    for _ in range(TRIES):
        choice = say(**asking, tool_choice="required", parallel_tool_calls=False).choices[0]
        (call,) = choice.message.tool_calls
        assert is_call(call.function.name, json.loads(call.function.arguments)), call
        assert choice.finish_reason == "tool_calls"
    named = {"type": "function", "function": {"name": "get_weather"}}
    for _ in range(TRIES):
        with client.chat.completions.stream(
            model=MODEL, **asking, tool_choice=named, parallel_tool_calls=False
        ) as told:
            message = told.get_final_completion().choices[0].message
        (call,) = message.tool_calls
        assert is_call(call.function.name, json.loads(call.function.arguments)), call
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny in Paris."}
    turns = [*asking["messages"], message, result]
    assert say(messages=turns, tools=[tool], tool_choice="none").choices[0].message.content


@check
def errors_have_classes():
    bad = refused(openai.BadRequestError, say, temperature=3)
    assert (bad.param, bad.code, bad.type) == ("temperature", "invalid_value", "invalid_request_error")
    long = refused(openai.BadRequestError, say, messages=[{"role": "user", "content": "so " * 20_000}])
    assert long.code == "context_length_exceeded"
    assert refused(openai.AuthenticationError, say, client.with_options(api_key="wrong")).code == "invalid_api_key"
    assert refused(openai.NotFoundError, say, model="gpt-none").code == "model_not_found"
    assert refused(openai.InternalServerError, follow, fault="raise", after=-1).code == "engine_error"


@check
def a_limit_is_waited_for_as_the_headers_say():
    poor = client.with_options(api_key=POOR_KEY)
    is_patient(lambda retries: follow(poor.with_options(max_retries=retries)), openai.RateLimitError)


@check
def retries_are_as_many_as_asked_for_and_none_where_they_are_in_vain():
    patient = client.with_options(max_retries=2)
    overload = {"fault": "raise", "after": -1, "code": "overloaded"}
    assert requests_of(lambda: refused(openai.InternalServerError, follow, patient, **overload)) == 3
    assert requests_of(lambda: refused(openai.InternalServerError, follow, patient, fault="raise", after=-1)) == 1
    assert requests_of(lambda: refused(openai.BadRequestError, say, patient, temperature=3)) == 1


@check
def a_stream_that_fails_raises_after_what_it_said():
    chunks: list[openai.types.chat.ChatCompletionChunk] = []
    stream = client.chat.completions.create(
        model=SCRIPTED, messages=play(texts=["a", "b"], fault="raise", after=1), stream=True
    )
    error = refused(openai.APIError, chunks.extend, stream)
    assert "the script says so" in error.message
    assert [chunk.choices[0].delta.content for chunk in chunks][1:] == ["a"]


@check
def a_file_of_questions_is_answered_as_a_batch():
    body = {"model": MODEL, "messages": QUESTION, "temperature": 0}
    asked = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = b"".join(json.dumps({"custom_id": name} | asked).encode() + b"\n" for name in "ab")
    given = client.files.create(file=("questions.jsonl", lines), purpose="batch")
    assert client.files.retrieve(given.id).bytes == len(lines)
    made = client.batches.create(input_file_id=given.id, endpoint=asked["url"], completion_window="24h")
    eventually(lambda: client.batches.retrieve(made.id).status == "completed")
    over = client.batches.retrieve(made.id)
    assert (over.request_counts.completed, over.request_counts.failed) == (2, 0)
    answers = [json.loads(line) for line in client.files.content(over.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    assert all("Paris" in answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers)
    assert made.id in [each.id for each in client.batches.list(limit=5).data]
    assert client.files.delete(given.id).deleted
    refused(openai.NotFoundError, client.files.retrieve, given.id)
    refused(openai.BadRequestError, client.batches.cancel, made.id)


@check
def who_leaves_in_the_middle_leaves_nothing_behind():
    stream = say(stream=True, max_completion_tokens=MANY, extra_body={"ignore_eos": True})
    next(stream)
    eventually(lambda: running() == 1)
    stream.close()
    eventually(lambda: running() == 0)


run()
