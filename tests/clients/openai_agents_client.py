"""OpenAI's Agents SDK, over Responses and over chat completions."""

import asyncio
from typing import Annotated, Literal

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from checks import KEY, MODEL, PATIENCE, TRIES, URL, WEATHER, check, is_call, run
from pydantic import BaseModel, Field

set_tracing_disabled(disabled=True)
ASKED = "What is the capital of France?"
KINDS = (OpenAIResponsesModel, OpenAIChatCompletionsModel)
called = []


class Capital(BaseModel):
    city: Literal["Paris", "Rome"]
    coastal: bool


@function_tool
def get_weather(city: Literal["Paris", "Rome"], days: Annotated[int, Field(ge=1, le=7)]) -> str:
    """Tell the weather of a city."""
    called.append({"city": city, "days": days})
    return f"It is sunny in {city} for {days} days."


def agent(kind, settings, **fields):
    client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, timeout=PATIENCE, max_retries=0)
    settings = ModelSettings(**{"max_tokens": 200} | settings)
    return Agent(name="guide", model=kind(MODEL, client), model_settings=settings, **fields)


async def stream(guide, asked):
    told = Runner.run_streamed(guide, asked)
    return [event async for event in told.stream_events()], told


@check
async def a_plain_text_whole_and_streamed():
    for kind in KINDS:
        guide = agent(kind, {"temperature": 0}, instructions="Answer in one sentence.")
        whole = await Runner.run(guide, ASKED)
        assert "Paris" in whole.final_output
        events, told = await stream(guide, ASKED)
        deltas = [event.data for event in events if event.type == "raw_response_event"]
        text = "".join(data.delta for data in deltas if data.type == "response.output_text.delta")
        assert text == told.final_output == whole.final_output


@check
async def every_answer_is_the_class_that_was_asked_for():
    for kind in KINDS:
        guide = agent(kind, {"temperature": 1}, output_type=Capital)
        for _ in range(TRIES):
            assert (await Runner.run(guide, ASKED)).final_output.city in {"Paris", "Rome"}
            _, told = await stream(guide, ASKED)
            assert told.final_output.city in {"Paris", "Rome"}


@check
async def tools_are_called_whole_and_streamed():
    for kind in KINDS:
        settings = {"temperature": 1, "tool_choice": "required", "parallel_tool_calls": False}
        guide = agent(kind, settings, tools=[get_weather], tool_use_behavior="stop_on_first_tool")
        for _ in range(TRIES):
            called.clear()
            assert "sunny" in (await Runner.run(guide, WEATHER)).final_output
            _, told = await stream(guide, WEATHER)
            assert "sunny" in told.final_output
            assert len(called) == 2
            assert all(is_call("get_weather", call) for call in called), called


@check
async def an_agent_answers_after_its_call():
    for kind in KINDS:
        called.clear()
        settings = {"temperature": 0, "tool_choice": "get_weather", "parallel_tool_calls": False}
        guide = agent(kind, settings, tools=[get_weather])
        assert (await Runner.run(guide, WEATHER, max_turns=8)).final_output
        assert is_call("get_weather", called[0])


@check
async def an_agent_hands_over_to_another():
    for kind in KINDS:
        french = agent(kind, {"temperature": 0, "tool_choice": "none"}, handoff_description="Answers.")
        settings = {"temperature": 1, "tool_choice": "required", "parallel_tool_calls": False}
        guide = agent(kind, settings, handoffs=[french.clone(name="french")])
        done = await Runner.run(guide, ASKED)
        assert done.last_agent.name == "french"
        assert done.final_output


@check
async def a_session_goes_on():
    for kind in KINDS:
        session = SQLiteSession("one")
        guide = agent(kind, {"temperature": 0})
        first = await Runner.run(guide, ASKED, session=session)
        second = await Runner.run(guide, "Say that again.", session=session)
        assert second.final_output
        assert second.raw_responses[0].usage.input_tokens > first.raw_responses[0].usage.input_tokens > 0


@check
async def a_conversation_goes_on_from_what_is_stored():
    guide = agent(OpenAIResponsesModel, {"temperature": 0})
    first = await Runner.run(guide, ASKED)
    second = await Runner.run(guide, "Say that again.", previous_response_id=first.last_response_id)
    assert second.raw_responses[0].usage.input_tokens > first.raw_responses[0].usage.input_tokens


@check
async def errors_have_classes():
    for kind in KINDS:
        error = await failed(Runner.run(agent(kind, {"temperature": 3}), ASKED))
        assert isinstance(error, openai.BadRequestError)
        assert error.param == "temperature"


async def failed(asking):
    (error,) = await asyncio.gather(asking, return_exceptions=True)
    return error


run()
