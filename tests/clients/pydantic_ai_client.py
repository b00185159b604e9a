"""Pydantic AI: outputs by a tool, which is its own way, and by the schema of an answer, over both of OpenAI's APIs."""

from typing import Annotated, Literal

from checks import KEY, MODEL, SCHEMA, TRIES, URL, WEATHER, check, is_call, run
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

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


@check
async def tools_are_called_whole_and_streamed():
    tool = ToolDefinition(name="get_weather", parameters_json_schema=SCHEMA, strict=True)
    asking = ModelRequestParameters(function_tools=[tool], allow_text_output=False)
    for kind in KINDS:
        model = connect(kind)
        asked = (model, [ModelRequest.user_text_prompt(WEATHER)])
        how = {"model_settings": SETTINGS, "model_request_parameters": asking}
        for _ in range(TRIES):
            assert_called(await model_request(*asked, **how))
            async with model_request_stream(*asked, **how) as told:
                async for _event in told:
                    pass
            assert_called(told.get())


def assert_called(response):
    calls = response.tool_calls
    assert calls
    assert all(is_call(call.tool_name, call.args_as_dict()) for call in calls), calls


@check
async def a_called_function_gives_the_output():
    for kind in KINDS:
        called = []

        def get_weather(city: Literal["Paris", "Rome"], days: Annotated[int, Field(ge=1, le=7)]) -> Capital:
            """Tell the weather of a city."""
            called.append({"city": city, "days": days})  # noqa: B023 - it is called within the turn
            return Capital(city=city, coastal=False)

        guide = agent(kind, get_weather)
        assert (await guide.run(WEATHER)).output.city in {"Paris", "Rome"}
        assert is_call("get_weather", called[0])


run()
