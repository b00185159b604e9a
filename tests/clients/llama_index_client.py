"""LlamaIndex's package for whatever is like OpenAI."""

import gc
from typing import Literal

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
    is_call,
    is_patient,
    play,
    refused,
    run,
    running,
)
from llama_index.core.llms import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

PLACE = {"api_base": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE, "max_retries": 0, "context_window": 8_192}


def connect(**fields):
    return OpenAILike(**PLACE | {"model": MODEL, "temperature": 0, "is_chat_model": True, "max_tokens": 30} | fields)


def messages_of(conversation=QUESTION):
    return [ChatMessage(**message) for message in conversation]


@check
def a_whole_chat():
    answer = connect().chat(messages_of())
    assert "Paris" in answer.message.content
    assert answer.raw.usage.completion_tokens > 0


def get_weather(city: Literal["Paris", "Rome"], days: Literal[1, 2, 3]) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city} for {days} days."


CALLING = {"temperature": 1, "is_function_calling_model": True, "max_tokens": 300}
TOOL = FunctionTool.from_defaults(get_weather)
ASKING = {"tools": [TOOL], "user_msg": WEATHER, "tool_required": True, "allow_parallel_tool_calls": False}


def assert_called(model, answer):
    (call,) = model.get_tool_calls_from_response(answer)
    assert is_call(call.tool_name, call.tool_kwargs), call


@check
def tools_are_called_whole_and_streamed():
    model = connect(**CALLING)
    for _ in range(TRIES):
        assert_called(model, model.chat_with_tools(**ASKING))
        *_, last = model.stream_chat_with_tools(**ASKING)
        assert_called(model, last)


@check
async def also_asynchronously():
    model = connect(**CALLING)
    assert_called(model, await model.achat_with_tools(**ASKING))
    async for piece in await model.astream_chat_with_tools(**ASKING):
        last = piece
    assert_called(model, last)


@check
def a_called_tool_is_run():
    done = connect(**CALLING).predict_and_call([TOOL], user_msg=WEATHER, tool_required=True)
    assert "sunny" in done.response


class Capital(BaseModel):
    """The capital of a country."""

    city: Literal["Paris", "Rome"]
    coastal: bool


PROMPT_OF = PromptTemplate("What is the capital of {country}?")


@check
def an_answer_is_the_class_that_was_asked_for_whole_and_streamed():
    model = connect(**CALLING | {"is_function_calling_model": False, "should_use_structured_outputs": True})
    for _ in range(TRIES):
        assert model.structured_predict(Capital, PROMPT_OF, country="France").city in {"Paris", "Rome"}
        *_, last = model.stream_structured_predict(Capital, PROMPT_OF, country="France")
        assert isinstance(last, Capital)


@check
def so_it_is_by_a_function():
    model = connect(**CALLING)
    # Where it streams, it leaves the choice to the model unless it is told.
    named = {"type": "function", "function": {"name": "Capital"}}
    told = FunctionCallingProgram.from_defaults(Capital, prompt=PROMPT_OF, llm=model, tool_choice=named)
    for _ in range(TRIES):
        assert model.structured_predict(Capital, PROMPT_OF, country="France").city in {"Paris", "Rome"}
        *_, last = told.stream_call(country="France")
        assert Capital.model_validate(last.model_dump())


@check
def a_streamed_chat_is_the_whole_one():
    *_, last = connect().stream_chat(messages_of())
    assert last.message.content == connect().chat(messages_of()).message.content


@check
def completions():
    text = connect(is_chat_model=False, max_tokens=8)
    whole = text.complete(PROMPT).text
    assert "Paris" in whole
    *_, last = text.stream_complete(PROMPT)
    assert last.text == whole
    assert "Paris" in connect().complete("What is the capital of France?").text


@check
async def the_asynchronous_calls():
    assert "Paris" in (await connect().achat(messages_of())).message.content
    pieces = [piece.delta async for piece in await connect().astream_chat(messages_of())]
    assert "Paris" in "".join(pieces)
    assert "Paris" in (await connect(is_chat_model=False, max_tokens=8).acomplete(PROMPT)).text


@check
def stop_reaches_the_model():
    assert "Paris" not in connect().chat(messages_of(), stop=["Paris"]).message.content


@check
def errors_have_classes():
    assert refused(openai.BadRequestError, connect().chat, messages_of(), temperature=3).param == "temperature"
    refused(openai.AuthenticationError, connect(api_key="wrong").chat, messages_of())
    refused(openai.NotFoundError, connect(model="gpt-none").chat, messages_of())


@check
def a_limit_is_waited_for_as_the_headers_say():
    def ask(retries):
        return connect(api_key=POOR_KEY, model=SCRIPTED, max_retries=retries).chat(messages_of(play()))

    is_patient(ask, openai.RateLimitError)


@check
def who_leaves_in_the_middle_leaves_nothing_behind():
    stream = connect(max_tokens=MANY).stream_chat(messages_of(), extra_body={"ignore_eos": True})
    next(stream)
    eventually(lambda: running() == 1)
    stream.close()
    gc.collect()  # a cycle of its own still holds the connection
    eventually(lambda: running() == 0)


run()
