"""Schemas, regexes and grammars of every kind: an answer drawn at random keeps to them, or a 400 says why not."""

import itertools
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
# An answer that has no end within so many bytes is drawn anew.
_ANSWERS, _LONGEST, _TRIES = 5, 600, 50

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
    *(r"\d{1,3}%", "(?i)[a-c]{2}x", "a(b(c(d)?)?)?", "[^a-z]{2}", "(0|[1-9][0-9]{0,3})", "e[+-]?[0-9]{1,2}"),
]
# What no answer can be held to.
_NO_REGEXES = ["(?=a)b", r"(a)\1", "(", "a{2,1}", "[b-a]", "*a", r"\bword\b"]
_NO_GRAMMARS = ["start: nowhere", "root ::= (", "root ::= nowhere", "start: /(/", "nothing", 'x: "a"']
# Each with what Python can say of its sentences.
_GRAMMARS = {
    'root ::= "a"': "a",
    'root ::= "a" | "b" root': "b*a",
    "root ::= [0-9]+": "[0-9]+",
    'root ::= "(" root ")" | "x"': r"\(*x\)*",
    'root ::= x{2,3}\nx ::= "a"': "a{2,3}",
    'root ::= a b?\na ::= "1"+\nb ::= [^"\\n]{1,3}': r'1+([^"\n]{1,3})?',
    'root ::= "é" [漢字]': "é[漢字]",
    "root ::= [ \\t\\n]{2}": r"[ \t\n]{2}",
    'root ::= # comment\n "a"': "a",
    'root ::= ("a" | "b")* "."': r"[ab]*\.",
    'start: "a"': "a",
    'start: "a" | start "b"': "ab*",
    "start: /[0-9]+/": "[0-9]+",
    'start: x+\nx: "a" | "b"': "[ab]+",
    'start: A B\nA: "x" | "y"\nB: /[a-z]{2}/': "[xy][a-z]{2}",
    'start: "f(" %json {"type": "integer"} ")"': r"f\(-?[0-9]+\)",
    'start: x ("," x)*\nx: /[0-9]/': "[0-9](,[0-9])*",
    '?start: expr\n?expr: expr "+" term | term\nterm: /[0-9]/ | "(" expr ")"': "[0-9+()]+",
    'start: "a"~2..4 "b"': "a{2,4}b",
    "start: NUMBER\n%import common.INT -> NUMBER": "[0-9]+",
}


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
    drawn = (_draw(compiler.guide(compiled, _TERMS), dice) for _ in range(_TRIES))
    return list(itertools.islice((text for text in drawn if text is not None), _ANSWERS))


def _validate(schema, text):
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    kind(schema).validate(json.loads(text))


def test_there_is_enough_to_draw_from():
    assert sum(map(len, SCHEMAS.values())) >= 300
    assert (len(_REGEXES) >= 50, len(_GRAMMARS) >= 20) == (True, True)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_an_answer_validates_or_the_schema_is_refused_by_name(compiler, kind):
    kept, faults = 0, []
    for at, schema in enumerate(SCHEMAS[kind]):
        try:
            answers = _answers(compiler, JsonSchema(schema), at)
        except InvalidRequest as error:
            if error.param != "json_schema" or not re.match(r"\$[^ ]*: .", error.message):
                faults.append((schema, error.message))
            continue
        kept += 1
        if len(answers) < _ANSWERS:
            faults.append((schema, answers, "no more answers end"))
        for text in answers:
            fault = find_fault(JsonSchema(schema), text)
            try:
                "pattern" in str(schema) or _validate(schema, text)  # patterns are another dialect in Python
            except (jsonschema.ValidationError, RecursionError) as error:
                fault = fault or f"jsonschema: {type(error).__name__} {str(error)[:80]}"
            if fault:
                faults.append((schema, text, fault))
    assert faults == []
    assert kept >= 0.5 * len(SCHEMAS[kind])


def _is_kept(constraint, text):
    """Say what Python makes of an answer, where it can read the same words."""
    match constraint:
        case Regex(pattern) if not re.search(r"\\p|\[\[:", pattern):
            return re.fullmatch(pattern, text) is not None
        case Grammar(written):
            return re.fullmatch(_GRAMMARS[written], text) is not None
    return True


@pytest.mark.parametrize(
    "constraint", [*map(Regex, _REGEXES), *map(Grammar, _GRAMMARS), JsonObject(), Choice(("a", "ab", "é"))], ids=repr
)
def test_an_answer_keeps_to_a_regex_or_a_grammar(compiler, constraint):
    answers = _answers(compiler, constraint, 1)
    assert len(answers) == _ANSWERS
    assert [text for text in answers if find_fault(constraint, text)] == []
    assert [text for text in answers if not _is_kept(constraint, text)] == []


@pytest.mark.parametrize("constraint", [*map(Regex, _NO_REGEXES), *map(Grammar, _NO_GRAMMARS)], ids=repr)
def test_a_regex_or_a_grammar_that_no_answer_can_keep_to_is_refused(compiler, constraint):
    with pytest.raises(InvalidRequest) as refused:
        compiler.compile(constraint)
    assert refused.value.param == param_of(constraint)
