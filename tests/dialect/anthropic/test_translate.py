"""Each field of a `/v1/messages` body says to the engine what it means, or is refused by name."""

import base64
import typing

import msgspec
import pytest
from anthropic.types import ThinkingConfigParam

from gateway.api.anthropic.schema import count_decoder, messages_decoder
from gateway.api.anthropic.thinking import sign
from gateway.api.anthropic.translate import to_prompt, to_request
from gateway.engine import (
    Capability,
    Chat,
    Image,
    InvalidRequest,
    JsonSchema,
    Message,
    Sampling,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
    needs,
)

TOOL = {"name": "f", "description": "Does f.", "input_schema": {"type": "object"}}
USER = {"role": "user", "content": "hi"}


def decode(**fields):
    return messages_decoder.decode(msgspec.json.encode({"model": "m", "max_tokens": 5, "messages": [USER]} | fields))


def ask(**fields):
    return to_request(decode(**fields), "1")


def messages(*told):
    return ask(messages=list(told)).prompt.messages


def test_the_least_that_may_be_asked():
    request = ask()
    assert request.prompt == Chat((Message("user", (Text("hi"),)),))
    assert (request.id, request.model, request.constraint) == ("1", "m", None)
    assert request.sampling == Sampling(max_tokens=5)


def test_every_sampling_field_reaches_the_engine():
    request = ask(temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["a", "b"])
    assert request.sampling == Sampling(max_tokens=5, temperature=0.5, top_p=0.9, top_k=3, stop=("a", "b"))


@pytest.mark.parametrize("system", ["be nice", [{"type": "text", "text": "be nice"}]], ids=["text", "blocks"])
def test_the_system_prompt_is_the_first_turn(system):
    assert ask(system=system).prompt.messages[0] == Message("system", (Text("be nice"),))


def test_blocks_are_parts():
    image = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"png").decode()}
    content = [
        {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": image},
    ]
    assert messages({"role": "user", "content": content}) == (
        Message("user", (Text("see"), Image(b"png", "image/png"))),
    )


def test_calls_and_results_are_turns_of_their_own_in_order():
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}}
    other = {"type": "tool_use", "id": "d", "name": "f", "input": {}}
    results = [
        {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "1"}]},
        {"type": "tool_result", "tool_use_id": "d", "content": "2", "is_error": True},
        {"type": "text", "text": "go on"},
    ]
    assert messages(
        USER, {"role": "assistant", "content": [THOUGHT, REDACTED, call, other]}, {"role": "user", "content": results}
    ) == (
        Message("user", (Text("hi"),)),
        Message("assistant", (Thought("hm"), ToolCall("c", "f", '{"x":1}'), ToolCall("d", "f", "{}"))),
        Message("tool", (ToolResult("c", "1"), ToolResult("d", "Error: 2"))),
        Message("user", (Text("go on"),)),
    )


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (None, "auto"),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, "f"),
    ],
)
def test_tools_and_the_choice_among_them(choice, meant):
    fields = {} if choice is None else {"tool_choice": choice}
    prompt = ask(tools=[TOOL], **fields).prompt
    assert prompt.tools == (Tool("f", "Does f.", {"type": "object"}),)
    assert prompt.tool_choice == meant


@pytest.mark.parametrize(
    ("fields", "parallel"),
    [
        ({"type": "auto"}, True),
        ({"type": "any", "disable_parallel_tool_use": True}, False),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": True}, False),
    ],
)
def test_calls_are_one_by_one_where_that_is_asked(fields, parallel):
    assert ask(tools=[TOOL], tool_choice=fields).prompt.parallel_tool_calls is parallel


def test_a_strict_tool_is_strict():
    assert ask(tools=[TOOL | {"strict": True}]).prompt.tools == (Tool("f", "Does f.", {"type": "object"}, strict=True),)


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({}, (None, None, None)),
        ({"thinking": {"type": "disabled"}}, (False, None, None)),
        ({"thinking": {"type": "adaptive"}}, (None, None, None)),
        ({"thinking": {"type": "between_tools"}}, (False, None, None)),
        ({"thinking": {"type": "enabled"}}, (True, None, None)),
        ({"thinking": {"type": "enabled", "budget_tokens": 4}}, (True, None, 4)),
        ({"output_config": {"effort": "low"}}, (None, "low", None)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, (None, "max", None)),
    ],
)
def test_both_words_for_thinking_have_their_meaning(fields, meant):
    prompt = ask(**fields).prompt
    assert (prompt.reasoning, prompt.reasoning_effort, prompt.reasoning_budget) == meant


def test_every_type_of_thinking_that_the_sdk_knows_is_taken():
    hints = [typing.get_type_hints(each)["type"] for each in typing.get_args(ThinkingConfigParam)]
    kinds = [value for hint in hints for value in typing.get_args(hint)]
    assert {"enabled", "disabled", "adaptive"} <= set(kinds)
    for kind in kinds:
        budget = {"budget_tokens": 4} if kind == "enabled" else {}
        assert ask(thinking={"type": kind, **budget}).prompt.messages


def test_thoughts_between_calls_come_back_in_their_turns():
    def turn(thought, call_id):
        call = {"type": "tool_use", "id": call_id, "name": "f", "input": {}}
        thinking = {"type": "thinking", "thinking": thought, "signature": sign(thought)}
        result = {"type": "tool_result", "tool_use_id": call_id, "content": "1"}
        return {"role": "assistant", "content": [thinking, call]}, {"role": "user", "content": [result]}

    told = (USER, *turn("hm", "c"), *turn("ha", "d"))
    assert messages(*told)[1:] == (
        Message("assistant", (Thought("hm"), ToolCall("c", "f", "{}"))),
        Message("tool", (ToolResult("c", "1"),)),
        Message("assistant", (Thought("ha"), ToolCall("d", "f", "{}"))),
        Message("tool", (ToolResult("d", "1"),)),
    )
    told[3]["content"][0]["thinking"] = "other"
    with pytest.raises(InvalidRequest) as refused:
        messages(*told)
    assert refused.value.param == "messages[3].content[0].signature"


@pytest.mark.parametrize("signature", ["", "of another service", sign("hm")])
def test_a_thought_comes_back_with_its_signature_or_that_of_another(signature):
    thought = {"type": "thinking", "thinking": "hm", "signature": signature}
    told = messages({"role": "assistant", "content": [thought, SAID]}, USER)
    assert told[0] == Message("assistant", (Thought("hm"), Text("a")))


def test_a_thought_that_was_not_told_comes_back_as_none():
    thought = {"type": "thinking", "thinking": "", "signature": sign("hm")}
    assert messages({"role": "assistant", "content": [thought, SAID]}, USER)[0] == Message("assistant", (Text("a"),))


def test_an_output_format_is_a_constraint():
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert ask(output_config=wanted).constraint == JsonSchema({"type": "object"})


def test_a_top_p_of_0_is_the_likeliest_token():
    assert ask(top_p=0, temperature=1).sampling == Sampling(max_tokens=5, temperature=0)


def test_tools_that_must_not_be_called_need_no_tools():
    assert Capability.TOOLS not in needs(ask(tools=[TOOL], tool_choice={"type": "none"}))
    assert Capability.TOOLS in needs(ask(tools=[TOOL]))


def test_thinking_turned_off_needs_nothing():
    assert needs(ask(thinking={"type": "disabled"})) == needs(ask(thinking={"type": "adaptive"})) == needs(ask())


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
CALL = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
CALLING = {"role": "assistant", "content": [CALL]}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "1"}
SAID = {"type": "text", "text": "a"}
FORGED = {"type": "thinking", "thinking": "hm!", "signature": sign("hm")}
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
SEEN = {"type": "tool_result", "tool_use_id": "c", "content": [PIXEL]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL | {"type": "web_search_20250305"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"allowed_callers": ["code_execution"]}]}, "tools[0].allowed_callers"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"messages": [{"role": "user", "content": [LINK]}]}, "messages[0].content[0].source"),
        (
            {"messages": [{"role": "assistant", "content": [CALL]}, {"role": "user", "content": [SEEN]}]},
            "messages[1].content[0].content",
        ),
    ],
)  # fmt: skip
def test_what_nobody_here_can_do_is_refused_by_name(fields, param):
    with pytest.raises(Unsupported) as refused:
        ask(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"messages": [USER, {"role": "assistant", "content": "I "}]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "I\n"}]}]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": []}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [USER, {"role": "system", "content": []}, USER]}, "messages[1].content"),
        ({"messages": [USER, {"role": "assistant", "content": [THOUGHT, REDACTED]}, USER]}, "messages[1].content"),
        ({"messages": [USER, {"role": "assistant", "content": [CALL]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [CALL]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [CALLING, {"role": "assistant", "content": [RESULT]}]}, "messages[1].content[0]"),
        ({"messages": [CALLING, USER]}, "messages[1]"),
        ({"messages": [CALLING, {"role": "user", "content": [SAID, RESULT]}]}, "messages[1].content[0]"),
        ({"messages": [CALLING, {"role": "user", "content": [RESULT] * 2}]}, "messages[1].content[1].tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [CALL, CALL]}, USER]}, "messages[0].content[1].id"),
        ({"messages": [{"role": "assistant", "content": [FORGED, SAID]}, USER]}, "messages[0].content[0].signature"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [TOOL | {"input_schema": {"type": "string"}}]}, "tools[0].input_schema.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "output_config.effort"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as refused:
        ask(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        {"temperature": 1.5},
        {"top_k": -1},
        {"stop_sequences": [""]},
        {"tool_choice": {"type": "maybe"}},
        {"service_tier": "gold"},
    ],
    ids=str,
)
def test_what_has_no_meaning_is_refused(fields):
    with pytest.raises(msgspec.ValidationError):
        decode(**fields)


def test_an_answer_goes_on_with_the_last_turn_where_that_is_the_assistants():
    turns = [USER, {"role": "assistant", "content": "I am"}]
    assert ask(messages=turns).prompt == Chat(
        (Message("user", (Text("hi"),)), Message("assistant", (Text("I am"),))), continue_final=True
    )
    assert not ask().prompt.continue_final


def test_turns_of_one_role_in_a_row_are_one():
    assert messages(USER, {"role": "user", "content": "there"}) == (Message("user", (Text("hi"), Text("there"))),)


def test_a_system_turn_may_come_in_the_middle():
    assert [turn.role for turn in messages(USER, {"role": "system", "content": "x"}, USER)] == [
        "user",
        "system",
        "user",
    ]


def test_tokens_are_counted_of_the_same_conversation():
    fields = {"model": "m", "messages": [USER], "system": "be nice", "tools": [TOOL]}
    counted = count_decoder.decode(msgspec.json.encode(fields))
    assert to_prompt(counted) == ask(system="be nice", tools=[TOOL]).prompt
