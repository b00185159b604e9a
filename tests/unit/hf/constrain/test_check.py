"""A finished answer is looked at again, in time that grows with its length alone."""

import time

import pytest

from gateway.engine import Choice, Grammar, JsonObject, JsonSchema, Regex
from gateway_hf.constrain.check import find_fault

_SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}, "d": {"type": "string", "format": "date"}},
        "patternProperties": {"^x": {"type": "integer"}},
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("constraint", "text", "fault"),
    [
        (_SCHEMA, '{"a": "aaa", "d": "2020-01-31", "x1": 1}', None),
        (_SCHEMA, '{"a": "aab"}', "$.a breaks pattern"),
        (_SCHEMA, '{"d": "yesterday"}', "$.d breaks format"),
        (_SCHEMA, '{"x1": "1"}', "$.x1 breaks type"),
        (_SCHEMA, '{"y": 1}', "$ breaks additionalProperties"),
        (_SCHEMA, '{"a": "aaa"', "it is no JSON: JSONDecodeError"),
        (_SCHEMA, '{"x": NaN}', "it is no JSON: ValueError"),
        (_SCHEMA, "[" * 100_000, "it is nested too deep"),
        (JsonObject(), "{}", None),
        (JsonObject(), "[]", "$ breaks type"),
        (Choice(("a", "b")), "b", None),
        (Choice(("a", "b")), "ab", "it is none of the choices"),
        (Regex("[0-9]+"), "12", None),
        (Regex("[0-9]+"), "12a", "the pattern does not match it as a whole"),
        (Regex("(a+)+b"), "a" * 20_000, "the pattern does not match it as a whole"),
        (JsonSchema({"$ref": "#"}), "1", "it is nested too deep"),
        (Grammar("anything"), "anything", None),
    ],
)
def test_a_fault_is_found(constraint, text, fault):
    assert find_fault(constraint, text) == fault


def test_a_pattern_of_many_ways_takes_no_long_time():
    begun = time.process_time()
    assert find_fault(_SCHEMA, '{"a": "' + "a" * 3_000 + 'b"}') == "$.a breaks pattern"
    assert time.process_time() - begun < 5  # `re` would take for ever
