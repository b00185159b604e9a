"""Constraints are compiled once, and kept within bounds."""

import pytest

from gateway.engine import Choice, Grammar, InvalidRequest, JsonObject, JsonSchema, Regex
from gateway_hf.constrain import compiler as module
from gateway_hf.sampling.terms import Terms

_PERSON = JsonSchema({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})


def _says(compiler, constraint, text):
    """Whether a constraint lets a text be said, and end."""
    guide = compiler.guide(compiler.compile(constraint), Terms(limit=99, eos_ids=frozenset({256})))
    for byte in text.encode():
        if byte != guide.forced[0] if guide.forced else guide.bias(257, may_end=True)[byte] != 0:
            return False
        guide.take(byte)
    return not guide.forced and guide.bias(257, may_end=True)[256] == 0


@pytest.mark.parametrize(
    ("constraint", "said", "unsaid"),
    [
        (_PERSON, ['{"age": 3}', '{"age": -3, "x": []}'], ["{}", '{"age": "3"}', '{"age":3}', ' {"age": 3}', "3"]),
        (JsonObject(), ["{}", '{"a": [1, null]}'], ["[]", "1", '{"a"}']),
        (Regex("[0-9]{2}|x+"), ["12", "xxx"], ["1", "123", ""]),
        (Regex("^(a+)+$"), ["a", "aaa"], ["", "b"]),
        (Choice(("red", "redder", "")), ["red", "redder", ""], ["re", "reds"]),
        (Choice(('"', "\\n", "é\n")), ['"', "\\n", "é\n"], ["\n", "e"]),
        (Grammar('start: "a" x\nx: /[0-9]+/'), ["a1", "a12"], ["a", "1"]),
        (Grammar('?start: "a" | "b"'), ["a", "b"], ["", "ab"]),
        (Grammar('root ::= "a" x-y\nx-y ::= [0-9\\u00e9] | "\\u0041\\u0022"'), ["a1", "aé", 'aA"'], ["a", "1"]),
        (Grammar('start: "<" %json {"type": "integer"} ">"'), ["<1>"], ["<>", '<"1">']),
    ],
)
def test_a_constraint_allows_its_sentences_and_no_others(compiler, constraint, said, unsaid):
    assert [text for text in said if not _says(compiler, constraint, text)] == []
    assert [text for text in unsaid if _says(compiler, constraint, text)] == []


@pytest.mark.parametrize(
    ("constraint", "param", "told"),
    [
        (JsonSchema({"properties": {"a": {"items": {"not": {}}}}}), "json_schema", r"\$\.properties\.a\.items\.not: "),
        (Regex("a(?=b)"), "regex", "look-ahead"),
        (Regex("[a"), "regex", "unclosed"),
        (Choice(()), "choice", "nothing to choose"),
        (Grammar("start: x"), "grammar", 'unknown name: "x"'),
        (Grammar("root ::= x"), "grammar", "'x' not found"),
        (Grammar(""), "grammar", "Empty"),
        (Grammar("root ::= " + "(" * 5_000), "grammar", "too deep"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(compiler, constraint, param, told):
    for _ in range(2):  # the second time it is known
        with pytest.raises(InvalidRequest, match=told) as refused:
            compiler.compile(constraint)
        assert refused.value.param == param


def test_a_grammar_is_compiled_once(compiler):
    first = compiler.compile(JsonSchema({"type": "string"}))
    assert compiler.compile(JsonSchema({"type": "string"})) is first
    assert compiler.compile(JsonSchema({"type": "number"})) is not first


def test_the_least_recently_used_grammar_goes_first(compiler, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 2)
    first, second = compiler.compile(Regex("1")), compiler.compile(Regex("2"))
    assert compiler.compile(Regex("1")) is first
    compiler.compile(Regex("3"))
    assert compiler.compile(Regex("1")) is first
    assert compiler.compile(Regex("2")) is not second


def test_a_grammar_that_has_grown_is_made_anew(compiler, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 40 << 20)
    first = compiler.compile(Regex("1"))
    first.spend(0.1)
    assert compiler.compile(Regex("1")) is first
    first.spend(1.0)
    assert compiler.compile(Regex("1")) is not first
