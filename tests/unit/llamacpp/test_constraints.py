"""What llama-server keeps is asked of it; what it would pass over is refused."""

from contextlib import suppress

import pytest

from gateway.engine import Choice, Grammar, InvalidRequest, JsonObject, JsonSchema, Regex
from gateway_llamacpp.constraints import find_fault, kind_of, to_grammar

CITY = {"type": "object", "properties": {"if": {"enum": ["a"]}}, "required": ["if"], "additionalProperties": False}


def test_a_choice_is_a_grammar_of_literals():
    grammar = to_grammar(Choice(("red", 'a"b\\\n🙂')))["grammar"]
    assert grammar == 'root ::= "red" | "a\\U00000022b\\U0000005c\\U0000000a\\U0001f642"'


def test_a_schema_is_handed_on_and_names_of_properties_are_no_keywords():
    assert to_grammar(JsonSchema(CITY)) == {"json_schema": CITY}
    assert to_grammar(JsonObject()) == {"json_schema": {"type": "object"}}


@pytest.mark.parametrize(
    "constraint",
    [
        JsonSchema({"type": "nonsense"}),
        JsonSchema({"type": "array", "items": {"type": "number", "multipleOf": 2}}),
        JsonSchema({"type": "number", "minimum": 1}),
        JsonSchema({"type": "string", "format": "email"}),
        JsonSchema({"$defs": {"a": {"not": {}}}, "type": "object"}),
        Choice(()),
        Choice(("",)),
        Regex("(a"),
        Grammar("start: 'a'"),
        Grammar("root ::= " + "(" * 60 + ")" * 60),
        Grammar('root ::= "a"' + " " * 60_000),
    ],
)
def test_what_is_not_kept_is_refused_by_its_kind(constraint):
    with pytest.raises(InvalidRequest) as refusal:
        to_grammar(constraint)
    names = {JsonSchema: "json_schema", Choice: "choice", Regex: "regex", Grammar: "grammar"}
    assert refusal.value.param == names[type(constraint)]


def test_bounds_of_whole_numbers_are_kept():
    assert to_grammar(JsonSchema({"type": "integer", "minimum": 1, "maximum": 3}))


def test_a_regex_is_a_grammar_and_a_grammar_is_handed_on():
    assert to_grammar(Regex("[0-9]+"))["grammar"] == "root ::= [0-9]+"
    text = 'root ::= x  # ((((\nx ::= "(((" [(((] ("a" | "\\"(")'
    assert to_grammar(Grammar(text)) == {"grammar": text}


@pytest.mark.parametrize("piece", ["[", '"', "\n", "a ", "(", "\\"])
def test_a_grammar_that_is_none_is_read_in_no_time(piece):
    """A pattern that went back over it would take minutes, and this test with it."""
    with suppress(InvalidRequest):
        to_grammar(Grammar("root ::= " + piece * (40_000 // len(piece))))


def test_an_answer_is_looked_at_once_more():
    assert find_fault(Choice(("red",)), "red") is None
    assert find_fault(Choice(("red",)), "reds") is not None
    assert find_fault(JsonSchema(CITY), '{"if": "a"}') is None
    assert find_fault(JsonSchema(CITY), '{"if": "b"}') is not None
    assert find_fault(JsonObject(), "[]") is not None
    assert find_fault(JsonObject(), "{") == "it is no JSON"
    assert find_fault(Regex("a"), "a") is None
    assert kind_of(JsonObject()) == "json_object"
