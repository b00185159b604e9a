"""Schemas, regexes and grammars of every kind: an answer drawn at random keeps to them, or a 400 says why not."""

import json
import random
import re

import jsonschema
import numpy as np
import pytest

from gateway.engine import Choice, Grammar, InvalidRequest, JsonObject, JsonSchema, Regex
from gateway_hf.constrain.check import find_fault
from gateway_hf.constrain.grammars import param_of
from gateway_hf.sampling.terms import Terms
from tests.support.json_schemas import SCHEMAS

_EOS = 256
_TERMS = Terms(limit=9999, eos_ids=frozenset({_EOS}))
_CLOSING = [_EOS, *b'"}]']
_ANSWERS, _LONGEST = 5, 600

_REGEXES = [
    *("a", "a+", "a*b", "[a-f]{3}", "(ab|cd)+", "x?y?z", r"\d{2,4}", r"\w+", r"[^\n]{5}", "(?i)abc", r"\p{Lu}\p{Ll}+"),
    *(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"(25[0-5]|1?[0-9]{1,2})(\.(25[0-5]|1?[0-9]{1,2})){3}", "^yes$|^no$", "(a|b)*abb"),
    *(
        "(a+)+",
        "[ab]*a[ab]{13}",
        "a{1,100000}",
        r"\$[0-9]+\.[0-9]{2}",
        r"#[0-9a-f]{6}",
        r"(\+1)?[0-9]{10}",
        ".",
        ".{3}",
    ),
    *("(?s:.)", "[é漢]+", r"\x41", r"\t|\n", "a|", "()", "((a))", "a{0}", "a{3}", "[]a]", r"[\]a]", "[a-]", r"[\w-]+"),
    *("(?:ab)+", "(?P<name>a)", "a+?", "a{2,}?", r"\.", r"\\", "/", '"', "[[:alpha:]]+", r"\s", r"\S", r"\D", r"\W"),
]
_GRAMMARS = [
    'root ::= "a"',
    'root ::= "a" | "b" root',
    "root ::= [0-9]+",
    'root ::= "(" root ")" | "x"',
    'root ::= x{2,3}\nx ::= "a"',
    'root ::= a b?\na ::= "1"+\nb ::= [^"\\n]{1,3}',
    'root ::= "é" [漢字]',
    "root ::= [ \\t\\n]{2}",
    'root ::= # comment\n "a"',
    'root ::= ("a" | "b")* "."',
    'start: "a"',
    'start: "a" | start "b"',
    "start: /[0-9]+/",
    'start: x+\nx: "a" | "b"',
    'start: A B\nA: "x" | "y"\nB: /[a-z]{2}/',
    'start: "f(" %json {"type": "integer"} ")"',
    'start: x ("," x)*\nx: /[0-9]/',
    '?start: expr\n?expr: expr "+" term | term\nterm: /[0-9]/ | "(" expr ")"',
    'start: "a"~2..4 "b"',
    "start: NUMBER\n%import common.INT -> NUMBER",
]


def _draw(guide, dice):
    """Draw bytes at random, the likelier to end the longer it is; None where it does not end."""
    said = bytearray()
    while len(said) < _LONGEST:
        if guide.forced:
            token = guide.forced[0]
        else:
            allowed = np.flatnonzero(guide.bias(_EOS + 1, may_end=True) == 0)
            closing = [token for token in _CLOSING if token in allowed]
            plain = [token for token in allowed if 32 <= token < 127 or token == _EOS]
            token = int(dice.choice(closing if closing and dice.random() < 0.4 else plain or allowed))
        if token == _EOS:
            return said.decode()
        guide.take(token)
        said.append(token)
    return None


def _answers(compiler, constraint, seed):
    compiled = compiler.compile(constraint)
    dice = random.Random(seed)  # noqa: S311 - nothing is secret
    drawn = [_draw(compiler.guide(compiled, _TERMS), dice) for _ in range(_ANSWERS)]
    return [text for text in drawn if text is not None]


def _validate(schema, text):
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    kind(schema).validate(json.loads(text))


def test_there_are_enough_schemas():
    assert sum(map(len, SCHEMAS.values())) >= 300


@pytest.mark.parametrize("kind", SCHEMAS)
def test_an_answer_validates_or_the_schema_is_refused_by_name(compiler, kind):
    kept, finished, faults = 0, 0, []
    for at, schema in enumerate(SCHEMAS[kind]):
        try:
            answers = _answers(compiler, JsonSchema(schema), at)
        except InvalidRequest as error:
            if error.param != "json_schema" or not re.match(r"\$[^ ]*: .", error.message):
                faults.append((schema, error.message))
            continue
        kept += 1
        finished += bool(answers)
        for text in answers:
            fault = find_fault(JsonSchema(schema), text)
            try:
                "pattern" in str(schema) or _validate(schema, text)  # patterns are another dialect in Python
            except (jsonschema.ValidationError, RecursionError) as error:
                fault = fault or f"jsonschema: {type(error).__name__} {str(error)[:80]}"
            if fault:
                faults.append((schema, text, fault))
    assert faults == []
    assert kept >= finished > 0.8 * kept > 0.3 * len(SCHEMAS[kind])


@pytest.mark.parametrize(
    "constraint", [*map(Regex, _REGEXES), *map(Grammar, _GRAMMARS), JsonObject(), Choice(("a", "ab", "é"))], ids=repr
)
def test_an_answer_keeps_to_a_regex_or_a_grammar_or_it_is_refused(compiler, constraint):
    try:
        faults = [text for text in _answers(compiler, constraint, 1) if find_fault(constraint, text)]
    except InvalidRequest as error:
        faults = [error.message] if error.param != param_of(constraint) else []
    assert faults == []
