"""Pydantic AI: outputs by a tool, which is its own way, and by the schema of an answer, over both of OpenAI's APIs."""

from typing import Literal

from checks import KEY, MODEL, TRIES, URL, check, run
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

ASKED = "What is the capital of France?"
SETTINGS = {"temperature": 1.0, "max_tokens": 300}
KINDS = (OpenAIChatModel, OpenAIResponsesModel)


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool


def connect(kind):
    return kind(MODEL, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def agent(kind, output):
    return Agent(connect(kind), output_type=output, model_settings=SETTINGS, retries=0)


@check
async def a_plain_text():
    for kind in KINDS:
        assert "Paris" in (await agent(kind, str).run(ASKED, model_settings={"temperature": 0.0})).output


@check
async def every_answer_is_the_class_that_was_asked_for():
    for kind in KINDS:
        for output in (NativeOutput(Capital), ToolOutput(Capital)):
            for _ in range(TRIES):
                assert (await agent(kind, output).run(ASKED)).output.city in {"Paris", "Rome"}


@check
async def also_streamed():
    for kind in KINDS:
        for output in (NativeOutput(Capital), ToolOutput(Capital)):
            for _ in range(TRIES):
                async with agent(kind, output).run_stream(ASKED) as answer:
                    assert (await answer.get_output()).city in {"Paris", "Rome"}


run()
