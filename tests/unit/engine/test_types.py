"""Every struct that crosses the border is frozen, strict, and the same after the wire."""

import dataclasses

import msgspec
import pytest
from msgspec import Struct
from polyfactory.factories.msgspec_factory import MsgspecFactory

import gateway.engine
from gateway.engine import Answer, Capability, Chat, Completion, Image, Message, Sampling, Text, ToolResult

# An answer is folded on this side of the border; it is never sent. A result is bytes that are encoded already.
ELSEWHERE = (Answer, gateway.engine.CacheEntry, gateway.engine.Result)
STRUCTS = sorted(
    (
        value
        for value in map(vars(gateway.engine).get, gateway.engine.__all__)
        if isinstance(value, type) and issubclass(value, Struct) and value not in ELSEWHERE
    ),
    key=lambda struct: struct.__name__,
)


def instances(struct, count):
    factory = MsgspecFactory.create_factory(struct)
    factory.seed_random(len(struct.__struct_fields__))
    return factory.batch(count)


every_struct = pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)


@every_struct
def test_a_struct_survives_messagepack(struct):
    for value in instances(struct, 20):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=struct) == value


@every_struct
def test_a_struct_survives_json(struct):
    for value in instances(struct, 20):
        assert msgspec.json.decode(msgspec.json.encode(value), type=struct) == value


@every_struct
def test_a_struct_is_frozen(struct):
    assert struct.__struct_config__.frozen
    value = instances(struct, 1)[0]
    for field in struct.__struct_fields__:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(value, field, None)


@every_struct
def test_a_struct_refuses_what_it_does_not_know(struct):
    value = msgspec.msgpack.decode(msgspec.msgpack.encode(instances(struct, 1)[0]))
    widened = [*value, None] if struct.__struct_config__.array_like else value | {"unknown": None}
    if struct.__struct_config__.array_like:
        plain = [None] * (len(struct.__struct_fields__) + bool(struct.__struct_config__.tag))
        widened = [*value, *plain[len(value) :], None]
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(widened), type=struct)


@every_struct
def test_a_struct_says_what_it_is(struct):
    assert struct.__doc__


def test_every_sampling_field_has_its_capability():
    others = {
        Capability.CHAT,
        Capability.COMPLETION,
        Capability.TOKENS,
        Capability.EMBEDDING,
        Capability.SCORE,
        Capability.CLASSIFY,
        Capability.TOOLS,
        Capability.PARALLEL_TOOL_CALLS,
        Capability.REASONING,
        Capability.REASONING_EFFORT,
        Capability.REASONING_BUDGET,
        Capability.VISION,
        Capability.TOKEN_COUNT,
        Capability.TOKENIZE,
        Capability.TRUNCATION_SIDE,
        Capability.TOKENIZER_INFO,
        Capability.CONTINUE_FINAL,
        Capability.TEMPLATE_ARGUMENTS,
        Capability.JSON_SCHEMA,
        Capability.JSON_OBJECT,
        Capability.REGEX,
        Capability.CHOICE,
        Capability.GRAMMAR,
        Capability.STANDBY,
    }
    assert set(Sampling.__struct_fields__) == set(Capability) - others


def test_every_sampling_field_is_the_models_own_by_default():
    assert {getattr(Sampling(), field) for field in Sampling.__struct_fields__} == {None}


def test_a_sampling_that_asks_nothing_costs_nothing_on_the_wire():
    assert msgspec.json.encode(Sampling()) == b"{}"


def test_a_messages_text_leaves_out_what_is_no_text():
    parts = (Text("one "), Image(b"\x89PNG", "image/png"), ToolResult("7", "sunny"), Text("two"))
    assert Message("user", parts).text == "one two"


def test_prompts_are_told_apart_by_their_tag():
    for prompt in (Chat(()), Completion("hello")):
        assert msgspec.json.decode(msgspec.json.encode(prompt), type=Chat | Completion) == prompt


def test_an_unknown_role_is_refused():
    with pytest.raises(msgspec.ValidationError, match="role"):
        msgspec.json.decode(b'{"role": "root", "parts": []}', type=Message)


def test_a_default_dictionary_is_not_shared():
    first, second = gateway.engine.Tool("a"), gateway.engine.Tool("b")
    assert first.parameters is not second.parameters


def test_the_structs_under_test_are_all_of_them():
    assert len(STRUCTS) >= 25
    assert not any(dataclasses.is_dataclass(struct) for struct in STRUCTS)
