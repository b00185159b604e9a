"""Tools and thoughts with the official SDKs against the real service, where an echo is the model."""

import json

import anthropic
import openai
import pytest

from tests.support.service import Service

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("get_weather", "get_time")]
PARAMS = [{"name": name, "input_schema": SCHEMA} for name in ("get_weather", "get_time")]
QUESTION = [{"role": "user", "content": "get_weather and get_time please"}]


@pytest.fixture(scope="module")
def house():
    with Service() as running:
        yield running


@pytest.fixture(scope="module")
def openais(house):
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def anthropics(house):
    with anthropic.Anthropic(base_url=house.url, api_key="none", max_retries=0) as client:
        yield client


def test_openais_sdk_calls_tools_and_sends_their_results_back(openais):
    asked = {"model": "echo", "messages": QUESTION, "tools": TOOLS}
    message = openais.chat.completions.create(**asked).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": ""}] * 2
    with openais.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    assert [call.function.arguments for call in streamed.message.tool_calls] == ['{"city": ""}'] * 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny "} for call in message.tool_calls]
    answer = openais.chat.completions.create(**asked | {"messages": [*QUESTION, message, *results]})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("sunny ", "stop")


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"tool_choice": "none"}, []),
        ({"tool_choice": "required", "parallel_tool_calls": False}, ["get_weather"]),
        ({"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, ["get_time"]),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": TOOLS[1:]}}},
            ["get_time"],
        ),
    ],
)
def test_every_choice_is_kept(openais, fields, called):
    answer = openais.chat.completions.create(model="echo", messages=QUESTION, tools=TOOLS, **fields)
    assert [call.function.name for call in answer.choices[0].message.tool_calls or ()] == called


def test_functions_are_called_in_their_older_words(openais):
    functions = [tool["function"] for tool in TOOLS]
    choice = openais.chat.completions.create(model="echo", messages=QUESTION, functions=functions).choices[0]
    assert (choice.finish_reason, choice.message.function_call.name) == ("function_call", "get_weather")
    turns = [*QUESTION, choice.message, {"role": "function", "name": "get_weather", "content": "sunny"}]
    answer = openais.chat.completions.create(model="echo", messages=turns, functions=functions)
    assert answer.choices[0].message.content == "sunny"


def test_anthropics_sdk_calls_tools_and_sends_their_results_back(anthropics):
    asked = {"model": "echo", "max_tokens": 99, "messages": QUESTION, "tools": PARAMS}
    message = anthropics.messages.create(**asked, thinking={"type": "enabled", "budget_tokens": 2})
    assert [block.type for block in message.content] == ["thinking", "tool_use", "tool_use"]
    assert (message.stop_reason, message.content[0].thinking) == ("tool_use", "get_weather and ")
    assert message.usage.output_tokens_details.thinking_tokens == 2
    with anthropics.messages.stream(**asked, thinking={"type": "enabled", "budget_tokens": 2}) as stream:
        streamed = stream.get_final_message()
    assert [block.input for block in streamed.content[1:]] == [{"city": ""}] * 2
    assert streamed.content[0].signature == message.content[0].signature
    results = [{"type": "tool_result", "tool_use_id": b.id, "content": "sunny "} for b in streamed.content[1:]]
    turns = [*QUESTION, {"role": "assistant", "content": streamed.content}, {"role": "user", "content": results}]
    answer = anthropics.messages.create(**asked | {"messages": turns})
    assert ([block.text for block in answer.content], answer.stop_reason) == (["sunny sunny "], "end_turn")
    counted = anthropics.messages.count_tokens(model="echo", messages=turns, tools=PARAMS)
    assert counted.input_tokens == answer.usage.input_tokens > len(QUESTION[0]["content"].split())


def test_openais_sdk_reads_thoughts_and_their_number(openais):
    asked = {"model": "echo", "messages": [{"role": "user", "content": "one two"}], "reasoning_effort": "low"}
    answer = openais.chat.completions.create(**asked)
    assert (answer.choices[0].message.reasoning_content, answer.choices[0].message.content) == ("one two", "one two")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    chunks = list(openais.chat.completions.create(**asked, stream=True))
    assert "".join(getattr(chunk.choices[0].delta, "reasoning", "") for chunk in chunks) == "one two"
    silent = openais.chat.completions.create(**asked | {"reasoning_effort": "none"})
    assert silent.usage.completion_tokens_details.reasoning_tokens == 0
