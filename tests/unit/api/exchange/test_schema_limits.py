"""A schema beyond the limits is refused, with its path and keyword, after a look at no more than they allow."""

import msgspec
import pytest

from gateway.api.exchange import schema_limits
from gateway.api.exchange.schema_limits import MOST_LEVELS, MOST_PROPERTIES, MOST_VALUES, check_schema
from gateway.api.exchange.shape import MOST_CHARACTERS
from gateway.engine import InvalidRequest


def nested(levels, wrap=lambda inner: {"type": "array", "items": inner}):
    schema = {"type": "null"}
    for _ in range(levels - 1):
        schema = wrap(schema)
    return schema


def values(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def properties(count):
    return {f"p{number}": {} for number in range(count)}


def refusal(schema):
    with pytest.raises(InvalidRequest) as refused:
        check_schema(schema, "guided_json")
    assert refused.value.param == "guided_json"
    assert refused.value.message.startswith("guided_json: $")
    return refused.value.message.removeprefix("guided_json: ")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        nested(MOST_LEVELS),
        {"properties": properties(MOST_PROPERTIES)},
        {"enum": list(range(MOST_VALUES))},
        {"const": "a" * (MOST_CHARACTERS - 100)},
        {"const": values(60)},
        {"$ref": "#"},
        {"$ref": "#/$defs/a%20b~1c/anyOf/1", "$defs": {"a b/c": {"anyOf": [{}, {}]}}},
        {"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}},
        {"$ref": "#/a/b", "a": {"b": {}}},
        {"properties": {"$ref": {"type": "string"}, "enum": {}, "properties": {}}},
        {"const": {"$ref": "https://example.com"}, "examples": [{"$ref": 5}], "default": {"$ref": "x"}},
        {"$id": "https://example.com/s", "$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"properties": {"a": {"$id": "b", "$ref": "#/c", "c": {}}}},
        {"dependentRequired": {"$ref": ["a"]}},
        {"dependencies": {"a": ["b"], "$ref": {"type": "object"}}},
        {"maximum": 2**64 - 1, "minimum": -(2**63), "multipleOf": 0.5},
        {"properties": [], "enum": {}, "items": True, "allOf": None},
    ],
)
def test_a_schema_within_the_limits_is_taken(schema):
    check_schema(schema, "guided_json")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (nested(MOST_LEVELS + 1), f"${'.items' * MOST_LEVELS}: more than 16 schemas inside each other"),
        (
            nested(MOST_LEVELS + 1, lambda inner: {"oneOf": [{}, inner]}),
            f"${'.oneOf[1]' * MOST_LEVELS}: more than 16 schemas inside each other",
        ),
        (
            {"$defs": {"a": {"properties": properties(200)}}, "properties": properties(57)},
            "$.$defs.a.properties: the schema has more than 256 properties",
        ),
        ({"properties": properties(257)}, "$.properties: the schema has more than 256 properties"),
        ({"items": {"enum": list(range(1_001))}}, "$.items.enum: the schema has more than 1000 values to choose from"),
        (
            {"anyOf": [{"enum": list(range(600))}, {"enum": list(range(600))}]},
            "$.anyOf[0].enum: the schema has more than 1000 values to choose from",
        ),
        ({"pattern": "a" * 65_537}, "$.pattern: the schema has more than 65536 characters"),
        ({"x" * 65_537: 1}, "$: the schema has more than 65536 characters"),
        ({"x": [1] * 40_000}, "$.x: the schema has more than 65536 characters"),
        (
            {"$ref": "https://example.com/schema.json"},
            "$.$ref: https://example.com/schema.json is outside of the schema, and nothing is fetched here",
        ),
        (
            {"properties": {"a": {"$dynamicRef": "file:///etc/passwd"}}},
            "$.properties.a.$dynamicRef: file:///etc/passwd is outside of the schema, and nothing is fetched here",
        ),
        ({"a": {"b": [{"$ref": "b.json"}]}}, "$.a.b[0].$ref: b.json is outside of the schema, and nothing is fetched"),
        ({"$ref": 5}, "$.$ref: expected a text"),
        ({"x": {"y": [[]] * 4_096}}, "$.x.y[4093]: the schema has more than 4096 objects and arrays"),
        ({"$ref": "#/$defs/nowhere"}, "$.$ref: #/$defs/nowhere leads nowhere"),
        ({"$ref": "#/anyOf/7", "anyOf": [{}]}, "$.$ref: #/anyOf/7 leads nowhere"),
        ({"$ref": "#/anyOf/" + "9" * 9_000, "anyOf": [{}]}, "$.$ref: #/anyOf/99999999"),
        ({"maximum": 2**64}, "$.maximum: the number has more than 64 bits"),
        ({"enum": [0, [-(2**63) - 1]]}, "$.enum[1][0]: the number has more than 64 bits"),
        ({"const": values(70)}, "$.const[0][0]"),
        ({"const": values(70)}, "[0]: nested deeper than 64 levels"),
    ],
)
def test_a_schema_beyond_a_limit_is_refused_by_path_and_keyword(schema, message):
    assert message in refusal(schema)


def test_a_long_name_or_path_is_shortened():
    assert len(refusal({"properties": {"a" * 60_000: {"$ref": "x" * 5_000}}})) < 300
    assert len(refusal(nested(17, lambda inner: {"properties": {"p" * 500: inner}}))) < 300


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [[]] * 500_000},
        {"enum": ["a"] * 500_000},
        {"properties": {str(number): {} for number in range(200_000)}},
        {"anyOf": [{}] * 500_000},
        {"x": [0] * 500_000},
        {str(number): number for number in range(200_000)},
        {"allOf": [{"allOf": []} for _ in range(4_096)]},
    ],
)
def test_of_a_large_schema_only_what_is_allowed_is_looked_at(schema, monkeypatch):
    looked = []
    see = schema_limits._Walk._see
    monkeypatch.setattr(schema_limits._Walk, "_see", lambda *parts: looked.append(see(*parts)))
    refusal(schema)
    assert len(looked) < MOST_CHARACTERS


def test_what_the_limits_let_through_can_be_sent_to_an_engine():
    schema = {"maximum": 2**64 - 1, "const": values(60)}
    check_schema(schema, "guided_json")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(schema)) == schema
