"""Tools in OpenAI's words, and as functions, their older name."""

import pytest

from gateway.engine import Capability, InvalidRequest, Tool, needs
from tests.support.openai_dialect import asked, chat
from tests.unit.api.openai.test_parameters import missing

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
F = {"name": "f", "description": "Does f.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": F}, {"type": "function", "function": {"name": "g", "strict": True}}]
CHOSEN = {"type": "function", "function": {"name": "f"}}


def allowed(mode, *names):
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_tools_are_told_to_the_engine_as_they_are():
    prompt = asked(chat(tools=TOOLS)).prompt
    assert prompt.tools == (Tool("f", "Does f.", SCHEMA), Tool("g", strict=True))
    assert (prompt.tool_choice, prompt.allowed_tools, prompt.parallel_tool_calls) == ("auto", (), True)


@pytest.mark.parametrize(
    ("choice", "meant", "among"),
    [
        (None, "auto", ()),
        ("auto", "auto", ()),
        ("none", "none", ()),
        ("required", "required", ()),
        (CHOSEN, "f", ()),
        ({"function": {"name": "f"}}, "f", ()),
        (allowed("auto", "g", "g"), "auto", ("g",)),
        (allowed("required", "f", "g"), "required", ("f", "g")),
        (allowed("required", "g"), "g", ()),
    ],
)
def test_the_choice_among_them(choice, meant, among):
    prompt = asked(chat(tools=TOOLS, tool_choice=choice)).prompt
    assert (prompt.tool_choice, prompt.allowed_tools) == (meant, among)


def test_a_tool_that_is_called_like_a_mode_can_be_chosen():
    named = [{"type": "function", "function": {"name": "none"}}]
    prompt = asked(chat(tools=named, tool_choice={"function": {"name": "none"}})).prompt
    assert (prompt.tool_choice, prompt.allowed_tools) == ("required", ("none",))


@pytest.mark.parametrize(
    ("fields", "parallel"),
    [
        ({"tools": TOOLS}, True),
        ({"tools": TOOLS, "parallel_tool_calls": True}, True),
        ({"tools": TOOLS, "parallel_tool_calls": False}, False),
        ({"tools": TOOLS, "parallel_tool_calls": False, "tool_choice": "none"}, True),
        ({"parallel_tool_calls": False}, True),
        ({"functions": [F]}, False),
    ],
)
def test_calls_are_one_by_one_where_that_is_asked_and_means_something(fields, parallel):
    assert asked(chat(**fields)).prompt.parallel_tool_calls is parallel


@pytest.mark.parametrize(
    ("choice", "meant"), [(None, "auto"), ("auto", "auto"), ("none", "none"), ({"name": "f"}, "f")]
)
def test_functions_are_tools(choice, meant):
    prompt = asked(chat(functions=[F], function_call=choice)).prompt
    assert prompt.tools == (Tool("f", "Does f.", SCHEMA),)
    assert prompt.tool_choice == meant


def test_no_functions_are_none():
    assert asked(chat(functions=[], function_call="none")) == asked(chat())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": CHOSEN}, "tool_choice.function.name"),
        ({"tools": TOOLS, "tool_choice": {"function": {"name": "h"}}}, "tool_choice.function.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        (
            {"tools": TOOLS, "tool_choice": allowed("auto", "f", "h")},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2].function.name"),
        (
            {"tools": [{"function": {"name": "f", "parameters": {"type": "array"}}}]},
            "tools[0].function.parameters.type",
        ),
        ({"functions": [F, F]}, "functions[1].name"),
        ({"functions": [F], "tools": TOOLS}, "functions"),
        ({"functions": [F], "function_call": {"name": "h"}}, "function_call.name"),
        ({"functions": [F], "tool_choice": "required"}, "tool_choice"),
        ({"function_call": "auto"}, "function_call"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as refused:
        asked(chat(**fields))
    assert refused.value.param == param


def test_a_model_that_calls_nothing_names_what_asked_for_a_call():
    called = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    assert missing(chat(functions=[F]), Capability.TOOLS) == "functions"
    assert (
        missing(chat(messages=[{"role": "user", "content": "a"}, called]), Capability.TOOLS) == "messages[1].tool_calls"
    )
    assert missing(chat(functions=[F]), Capability.PARALLEL_TOOL_CALLS) == "functions"
    assert Capability.TOOLS not in needs(asked(chat(tools=TOOLS, tool_choice="none")))
