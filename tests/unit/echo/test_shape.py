"""An echo keeps to a constraint with the smallest answer there is, or refuses it by path and keyword."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import structs

from gateway.engine import (
    Choice,
    FinishReason,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Started,
    Unsupported,
    collect,
)
from gateway_echo import EchoEngine, Settings
from gateway_echo.shape import shaped
from tests.support.asking import request

NODE = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}}
PERSON = {
    "type": "object",
    "title": "Person",
    "properties": {"name": {"type": "string", "minLength": 2}, "age": {"type": "integer", "minimum": 18}},
    "required": ["age", "name"],
    "additionalProperties": False,
}


async def say(constraint, prompt="hi", **sampling):
    asked = structs.replace(request(prompt, **sampling), constraint=constraint)
    return await collect(EchoEngine(Settings()).generate(asked))


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({}, None),
        ({"type": "null"}, None),
        ({"type": "boolean"}, False),
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 2.5}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -7}, -7),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "string"}, ""),
        ({"type": "string", "minLength": 3, "maxLength": 3}, "xxx"),
        ({"type": ["string", "null"]}, ""),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"items": {"type": "integer"}}, []),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"enum": ["red", "green"]}, "red"),
        ({"type": "integer", "enum": ["red", True, 5]}, 5),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 0),
        ({"allOf": [{"type": "string"}]}, ""),
        ({"type": "object"}, {}),
        ({"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}}, {"a": 0}),
        ({"properties": {"a": True, "b": {"type": "null"}}, "required": ["b", "a"]}, {"a": None, "b": None}),
        (PERSON, {"name": "xx", "age": 18}),
        (NODE, {}),
    ],
)
def test_the_smallest_instance_is_made(schema, instance):
    made = json.loads(shaped(JsonSchema(schema), "hi"))
    assert made == instance
    Draft202012Validator(schema).validate(made)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nonsense"}, "$.type: there is no such type"),
        ({"type": "string", "pattern": "a"}, "$.pattern"),
        ({"type": "string", "format": "date"}, "$.format"),
        ({"oneOf": [{}, {}]}, "$.oneOf"),
        ({"properties": {"a": {"not": {}}}, "required": ["a"]}, "$.properties.a.not"),
        ({"type": "array", "minItems": 1, "items": False}, "$.items: there is no such instance"),
        ({"type": "array", "minItems": 10**9}, "$.minItems"),
        ({"type": "string", "minLength": 10**9}, "$.minLength"),
        ({"type": "string", "minLength": "3"}, "$.minLength: expected a whole number"),
        ({"type": "string", "minLength": 4, "maxLength": 3}, "$.minLength: it is more than maxLength"),
        ({"type": "integer", "minimum": 0.1, "maximum": 0.9}, "$.minimum: no number is found"),
        ({"type": "integer", "minimum": "0"}, "$.minimum: expected a number"),
        ({"type": "string", "enum": [1]}, "$.enum: none of its values has the type"),
        ({"type": "string", "const": 1}, "$.const: none of its values has the type"),
        ({"anyOf": []}, "$.anyOf: expected a list"),
        ({"allOf": [{}, {}]}, "$.allOf: an echo keeps to one schema"),
        ({"required": ["a"], "additionalProperties": False}, "$.additionalProperties: there is no such instance"),
        ({"required": "a"}, "$.required"),
        ({"properties": []}, "$.properties"),
        ({"$ref": "#/a"}, "$.$ref: #/a leads nowhere"),
        ({"$ref": "https://x"}, "$.$ref: an echo follows"),
        ({"$ref": "#"}, "an instance has no end"),
        ({"items": {"minItems": 100, "items": {"type": "null"}}, "minItems": 100}, "takes more than 1000 schemas"),
        (
            {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
            "an instance has no end",
        ),
    ],
)
def test_a_schema_that_is_beyond_an_echo_is_refused_by_path_and_keyword(schema, message):
    with pytest.raises(InvalidRequest) as refused:
        shaped(JsonSchema(schema), "hi")
    assert refused.value.message.startswith("$.")
    assert message in refused.value.message
    assert refused.value.param == "json_schema"


NUMBERS = st.integers(-5, 5) | st.floats(-5, 5)
BOUNDS = st.dictionaries(st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), NUMBERS)


@given(BOUNDS, st.sampled_from(["integer", "number"]))
def test_a_number_keeps_to_its_bounds_or_is_refused(bounds, kind):
    schema = {"type": kind} | bounds
    try:
        made = json.loads(shaped(JsonSchema(schema), ""))
    except InvalidRequest:
        return
    Draft202012Validator(schema).validate(made)


def test_a_choice_is_what_the_prompt_speaks_of_or_the_first():
    assert shaped(Choice(("red", "green")), "the green one") == "green"
    assert shaped(Choice(("red", "green")), "neither") == "red"
    with pytest.raises(InvalidRequest):
        shaped(Choice(()), "")


async def test_the_answer_is_said_once_and_in_words():
    for sampling in ({}, {"ignore_eos": True}, {"min_tokens": 4}):
        answer = await say(JsonSchema(PERSON), **sampling)
        assert answer.text == '{"name": "xx", "age": 18}'
        assert (answer.finished.reason, answer.finished.usage.completion_tokens) == (FinishReason.STOP, 4)
    assert (await say(JsonObject())).text == "{}"


async def test_an_answer_that_is_cut_is_a_beginning():
    answer = await say(JsonSchema(PERSON), max_tokens=2)
    assert (answer.text, answer.finished.reason) == ('{"name": "xx", ', FinishReason.LENGTH)


@pytest.mark.parametrize(
    ("constraint", "sampling", "param"),
    [
        (Regex("a"), {}, "regex"),
        (Grammar("a"), {}, "grammar"),
        (JsonSchema({"type": "nonsense"}), {}, "json_schema"),
        (JsonObject(), {"min_tokens": 5}, "min_tokens"),
    ],
)
async def test_what_cannot_be_kept_is_refused_before_anything_is_said(constraint, sampling, param):
    asked = structs.replace(request("hi", **sampling), constraint=constraint)
    events = EchoEngine(Settings()).generate(asked)
    with pytest.raises(InvalidRequest) as refused:
        assert not isinstance(await anext(events), Started)
    assert refused.value.param == param
    assert isinstance(refused.value, Unsupported) is isinstance(constraint, Regex | Grammar)
