"""An echo calls the tools that the question names, and thinks where it is asked to."""

import json

import pytest
from msgspec import structs

from gateway.engine import (
    Chat,
    FinishReason,
    InvalidRequest,
    JsonObject,
    Message,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    collect,
)
from gateway_echo import EchoEngine, Settings
from gateway_echo.speech import read
from tests.support.asking import request

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"minimum": 2, "type": "integer"}}}
F = Tool("f", "Does f.", CITY | {"required": ["city", "days"]})
G = Tool("g")
STRANGE = {"type": "object", "properties": {"x": {"type": "string", "format": "uri"}}, "required": ["x"]}


def ask(text, **fields):
    return Chat((Message("user", (Text(text),)),), **({"tools": (F, G)} | fields))


async def say(chat, **sampling):
    return await collect(EchoEngine(Settings()).generate(request(chat, **sampling)))


@pytest.mark.parametrize(
    ("text", "fields", "called"),
    [
        ("hello", {}, []),
        ("please call f", {}, ["f"]),
        ("g, then f!", {}, ["f", "g"]),
        ("f and g", {"parallel_tool_calls": False}, ["f"]),
        ("f and g", {"tool_choice": "none"}, []),
        ("f and g", {"tool_choice": "g"}, ["g"]),
        ("f and g", {"allowed_tools": ("g",)}, ["g"]),
        ("hello", {"tool_choice": "required"}, ["f"]),
        ("hello", {"tool_choice": "required", "allowed_tools": ("g",)}, ["g"]),
        ("hello", {"tool_choice": "g"}, ["g"]),
        ("offer", {}, []),
    ],
)
async def test_the_tools_that_a_question_names_are_called(text, fields, called):
    answer = await say(ask(text, **fields))
    assert [call.name for call in answer.tool_calls] == called
    assert answer.text == ("" if called else text)
    assert answer.finished.reason is (FinishReason.TOOL_CALLS if called else FinishReason.STOP)
    assert len({call.id for call in answer.tool_calls}) == len(called)


async def test_arguments_are_the_smallest_that_the_schema_takes():
    answer = await say(ask("f g"))
    assert [json.loads(call.arguments) for call in answer.tool_calls] == [{"city": "", "days": 2}, {}]


async def test_a_schema_beyond_an_echo_is_refused_only_where_it_has_to_be_kept():
    assert (await say(ask("h", tools=(Tool("h", parameters=STRANGE),)))).tool_calls[0].arguments == "{}"
    with pytest.raises(InvalidRequest, match=r"^h: ") as refused:
        await say(ask("h", tools=(Tool("h", parameters=STRANGE, strict=True),)))
    assert refused.value.param == "tools"


async def test_the_result_of_a_tool_is_said_and_not_called_again():
    turns = (
        Message("user", (Text("f"),)),
        Message("assistant", (Thought("hm"), ToolCall("c", "f", "{}"))),
        Message("tool", (ToolResult("c", "f is sunny"),)),
    )
    assert (await say(Chat(turns, (F,)))).text == "f is sunny"


async def test_calls_and_their_results_and_tools_are_read():
    counts = [read(ask("a", tools=tools))[1] for tools in ((), (G,), (F, G))]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("fields", "thought"),
    [
        ({}, ""),
        ({"reasoning": True}, "one two three"),
        ({"reasoning": False}, ""),
        ({"reasoning_effort": "minimal"}, ""),
        ({"reasoning_effort": "low"}, "one two three"),
        ({"reasoning_budget": 2}, "one two "),
        ({"reasoning": True, "reasoning_budget": 2}, "one two "),
    ],
)
async def test_it_thinks_the_question_over_where_it_is_asked_to(fields, thought):
    answer = await say(ask("one two three", **fields))
    usage = answer.finished.usage
    assert (answer.reasoning, answer.text) == (thought, "one two three")
    assert (usage.reasoning_tokens, usage.completion_tokens) == (len(thought.split()), 3 + len(thought.split()))


async def test_an_answer_that_is_cut_while_it_thinks_or_calls_says_length():
    for chat in (ask("one two", reasoning=True), ask("f", tool_choice="f")):
        answer = await say(chat, max_tokens=1)
        assert (answer.finished.reason, answer.text) == (FinishReason.LENGTH, "")


async def test_a_call_needs_no_shape_of_the_answer():
    asked = structs.replace(request(ask("f")), constraint=JsonObject())
    answer = await collect(EchoEngine(Settings()).generate(asked))
    assert ([call.name for call in answer.tool_calls], answer.text) == (["f"], "")
