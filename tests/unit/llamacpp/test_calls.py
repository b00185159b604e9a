"""An answer that must be a call is held to one from its first token, and told as one when it is whole."""

import json

import pytest

from gateway.engine import (
    Chat,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    InvalidRequest,
    Message,
    Started,
    Text,
    Tool,
    ToolDelta,
    Usage,
)
from gateway_llamacpp.calls import CallEvents, must_call, to_held_call

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT, LOOSE = Tool("weather", parameters=CITY, strict=True), Tool("time", parameters={"type": "object", "not": {}})


def chat(choice="required", *tools, **fields):
    return Chat((Message("user", (Text("hello"),)),), tools or (STRICT, LOOSE), choice, **fields)


def branches(asked):
    return to_held_call(asked)["json_schema"]["anyOf"]


def test_only_a_choice_that_leaves_none_must_call():
    assert [must_call(chat(choice)) for choice in ("required", "time", "auto", "none")] == [True, True, False, False]
    assert not must_call(Chat(chat().messages, tool_choice="required"))


def test_a_call_has_one_of_the_names_and_its_arguments():
    strict, loose = branches(chat())
    assert strict["properties"] == {"name": {"const": "weather"}, "arguments": CITY}
    assert loose["properties"] == {"name": {"const": "time"}, "arguments": {"type": "object"}}
    assert strict["required"] == ["name", "arguments"]


@pytest.mark.parametrize("asked", [chat("time"), chat(allowed_tools=("time",))])
def test_only_what_may_be_called_has_a_branch(asked):
    (only,) = branches(asked)
    assert only["properties"]["name"] == {"const": "time"}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (chat("nothing"), "tool_choice"),
        (chat("required", Tool("f", parameters={"type": "object", "not": {}}, strict=True)), "tools"),
        (chat("required", Tool("f", parameters={"$ref": "#/$defs/a"}, strict=True)), "tools"),
    ],
)
def test_a_call_that_cannot_be_held_is_refused_by_name(asked, param):
    with pytest.raises(InvalidRequest) as refusal:
        to_held_call(asked)
    assert refusal.value.param == param


def told(text, reason=FinishReason.STOP):
    last = Finished(reason, Usage(3, len(text)))
    return CallEvents().see([Started(3), *(Delta(letter, 1) for letter in text), last])


def test_a_whole_call_is_one_piece_with_all_its_tokens():
    text = json.dumps({"name": "weather", "arguments": {"city": "Röm"}}, ensure_ascii=False)
    first, call, last = told(text)
    assert first == Started(3)
    assert isinstance(call, ToolDelta)
    assert (call.index, call.name, call.tokens) == (0, "weather", len(text))
    assert json.loads(call.arguments) == {"city": "Röm"}
    assert last.reason is FinishReason.TOOL_CALLS
    assert call.id != told(text)[1].id


def test_a_call_that_is_cut_is_none_and_says_so():
    _, rest, last = told('{"name": "wea', FinishReason.LENGTH)
    assert rest == Delta("", 13)
    assert last.reason is FinishReason.LENGTH


@pytest.mark.parametrize("text", ["", "no", "[]", '{"name": 1}', '{"name": "a", "arguments": 2}'])
def test_what_is_no_call_is_an_error_that_tells_nothing_of_it(text):
    with pytest.raises(EngineError, match="wrote none"):
        told(text)
