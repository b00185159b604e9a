"""Pydantic AI, with the output that a model gives natively."""

from typing import Literal

from checks import KEY, MODEL, URL, check, run
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

ASKED = "What is the capital of France?"


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool


def agent(output):
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))
    return Agent(model, output_type=output, model_settings={"temperature": 1.0}, retries=0)


@check
async def a_plain_text():
    assert "Paris" in (await agent(str).run(ASKED, model_settings={"temperature": 0.0})).output


@check
async def every_answer_is_the_class_that_was_asked_for():
    for _ in range(20):
        assert (await agent(NativeOutput(Capital)).run(ASKED)).output.city in {"Paris", "Rome"}


@check
async def also_streamed():
    async with agent(NativeOutput(Capital)).run_stream(ASKED) as answer:
        assert (await answer.get_output()).city in {"Paris", "Rome"}


run()
