"""LangChain's package for OpenAI's dialect."""

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
    SCRIPTED,
    TRIES,
    URL,
    WEATHER,
    check,
    eventually,
    is_patient,
    play,
    refused,
    run,
    running,
)
from langchain_core.exceptions import ContextOverflowError
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field

ITALY = "What is the capital of Italy?"
PLACE = {"base_url": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE, "max_retries": 0}


def connect(**fields):
    return ChatOpenAI(**PLACE | {"model": MODEL, "temperature": 0} | fields)


@check
def a_whole_chat():
    answer = connect().invoke(QUESTION)
    assert "Paris" in answer.content
    assert answer.usage_metadata["total_tokens"] > answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"] == MODEL


class Weather(BaseModel):
    """Tell the weather of a city."""

    city: Literal["Paris", "Rome"]
    days: Annotated[int, Field(ge=1, le=7)]


@check
def bound_tools_are_called_whole_and_streamed():
    model = connect(temperature=1).bind_tools([Weather], tool_choice="required", parallel_tool_calls=False)
    for _ in range(TRIES):
        (call,) = model.invoke(WEATHER).tool_calls
        assert Weather(**call["args"]), call
        first, *rest = model.stream(WEATHER)
        (call,) = sum(rest, first).tool_calls
        assert Weather(**call["args"]), call


@check
def a_streamed_chat_is_the_whole_one():
    first, *rest = connect(stream_usage=True).stream(QUESTION)
    whole = connect().invoke(QUESTION)
    joined = sum(rest, first)
    assert joined.content == whole.content
    assert joined.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


@check
def several_at_once():
    answers = connect().batch([QUESTION, ITALY])
    assert "Paris" in answers[0].content
    assert answers[1].content == connect().invoke(ITALY).content


@check
async def the_asynchronous_calls():
    assert "Paris" in (await connect().ainvoke(QUESTION)).content
    assert "Paris" in "".join([chunk.content async for chunk in connect().astream(QUESTION)])


@check
def stop_and_logprobs_are_bound():
    bound = connect().bind(stop=["Paris"], logprobs=True, top_logprobs=2)
    answer = bound.invoke(QUESTION)
    assert "Paris" not in answer.content
    assert len(answer.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2


@check
def completions():
    assert "Paris" in OpenAI(**PLACE, model=MODEL, temperature=0, max_tokens=8).invoke(PROMPT)


@check
def an_answer_has_the_shape_that_was_asked_for():
    city = {
        "title": "City",
        "type": "object",
        "properties": {"name": {"enum": ["Paris", "Rome"]}},
        "required": ["name"],
        # Else a hot model goes on with properties of its own.
        "additionalProperties": False,
    }
    structured = connect(temperature=1).with_structured_output(city, method="json_schema")
    assert all(structured.invoke(QUESTION)["name"] in {"Paris", "Rome"} for _ in range(TRIES))


@check
def an_answer_is_the_class_that_was_asked_for_by_every_method_whole_and_streamed():
    for method in ("json_schema", "function_calling"):
        structured = connect(temperature=1).with_structured_output(Weather, method=method)
        for _ in range(TRIES):
            assert structured.invoke(WEATHER).city in {"Paris", "Rome"}
            *_, last = structured.stream(WEATHER)
            assert last.city in {"Paris", "Rome"}


@check
def responses_are_called_and_shaped_too():
    model = connect(temperature=1, use_responses_api=True, max_tokens=300)
    bound = model.bind_tools([Weather], tool_choice="required", parallel_tool_calls=False)
    shaped = model.with_structured_output(Weather, method="json_schema")
    for _ in range(TRIES):
        (call,) = bound.invoke(WEATHER).tool_calls
        assert Weather(**call["args"]), call
        first, *rest = bound.stream(WEATHER)
        (call,) = sum(rest, first).tool_calls
        assert Weather(**call["args"]), call
        assert shaped.invoke(WEATHER).city in {"Paris", "Rome"}


@check
def what_the_model_cannot_do_is_refused_by_name():
    schema = {"title": "City", "type": "object", "properties": {"name": {"not": {}}}, "required": ["name"]}
    structured = connect().with_structured_output(schema, method="json_schema")
    error = refused(openai.BadRequestError, structured.invoke, QUESTION)
    assert (error.code, error.param) == ("invalid_value", "response_format.json_schema.schema")


@check
def errors_have_classes():
    assert refused(openai.BadRequestError, connect(temperature=3).invoke, QUESTION).param == "temperature"
    refused(ContextOverflowError, connect().invoke, "so " * 20_000)
    refused(openai.AuthenticationError, connect(api_key="wrong").invoke, QUESTION)
    assert refused(openai.NotFoundError, connect(model="gpt-none").invoke, QUESTION).code == "model_not_found"


@check
def a_limit_is_waited_for_as_the_headers_say():
    def ask(retries):
        return connect(api_key=POOR_KEY, model=SCRIPTED, max_retries=retries).invoke(play())

    is_patient(ask, openai.RateLimitError)


@check
def who_leaves_in_the_middle_leaves_nothing_behind():
    stream = connect(max_completion_tokens=MANY, extra_body={"ignore_eos": True}).stream(QUESTION)
    next(stream)
    eventually(lambda: running() == 1)
    stream.close()
    eventually(lambda: running() == 0)


run()
