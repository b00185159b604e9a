"""LiteLLM, which calls whatever speaks OpenAI's dialect `openai/MODEL`."""

import os

# Without it litellm asks the network for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from checks import (
    KEY,
    MANY,
    MODEL,
    PATIENCE,
    POOR_KEY,
    PROMPT,
    QUESTION,
    SCRIPTED,
    URL,
    check,
    eventually,
    is_patient,
    play,
    refused,
    run,
    running,
)

litellm.suppress_debug_info = True

PLACE = {"api_base": f"{URL}/v1", "api_key": KEY, "timeout": PATIENCE, "max_retries": 0}


def fields_of(fields):
    return PLACE | {"model": f"openai/{MODEL}", "messages": QUESTION, "temperature": 0} | fields


def say(**fields):
    return litellm.completion(**fields_of(fields))


def follow(fields=None, **script):
    return say(**{"model": f"openai/{SCRIPTED}", "messages": play(**script)} | (fields or {}))


@check
def a_whole_chat():
    answer = say(max_tokens=30)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > answer.usage.completion_tokens > 0


@check
def a_streamed_chat_is_the_whole_one():
    chunks = list(say(stream=True, stream_options={"include_usage": True}))
    whole = say()
    built = litellm.stream_chunk_builder(chunks, messages=QUESTION)
    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.usage.completion_tokens == whole.usage.completion_tokens


@check
async def the_asynchronous_calls():
    answer = await litellm.acompletion(**fields_of({}))
    assert "Paris" in answer.choices[0].message.content
    stream = await litellm.acompletion(**fields_of({"stream": True}))
    assert "Paris" in "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


@check
def completions():
    place = PLACE | {"model": f"text-completion-openai/{MODEL}", "prompt": PROMPT}
    answer = litellm.text_completion(**place, max_tokens=8, temperature=0)
    assert "Paris" in answer.choices[0].text


@check
def errors_have_classes():
    assert "temperature" in str(refused(litellm.BadRequestError, say, temperature=3))
    assert "use_beam_search" in str(refused(litellm.BadRequestError, say, extra_body={"use_beam_search": True}))
    refused(litellm.ContextWindowExceededError, say, messages=[{"role": "user", "content": "so " * 20_000}])
    refused(litellm.AuthenticationError, say, api_key="wrong")
    refused(litellm.NotFoundError, say, model="openai/gpt-none")
    refused(litellm.InternalServerError, follow, fault="raise", after=-1)
    refused(litellm.ServiceUnavailableError, follow, fault="raise", after=-1, code="overloaded")


@check
def a_limit_is_waited_for_as_the_headers_say():
    is_patient(lambda retries: follow({"api_key": POOR_KEY, "max_retries": retries}), litellm.RateLimitError)


@check
def who_leaves_in_the_middle_leaves_nothing_behind():
    stream = say(stream=True, max_tokens=MANY, extra_body={"ignore_eos": True})
    next(stream)
    eventually(lambda: running() == 1)
    stream.completion_stream.close()
    eventually(lambda: running() == 0)


run()
