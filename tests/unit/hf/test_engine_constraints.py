"""Answers that are held to a shape; over a tiny real model, which would write anything."""

import asyncio
import json
import re

import jsonschema
import pytest
import pytest_asyncio
from msgspec import structs

from gateway.engine import (
    Capability,
    Choice,
    EngineError,
    FinishReason,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Sampling,
    Unsupported,
    collect,
)
from gateway_hf.constrain.jobs import JobResult
from gateway_hf.constrain.vocabulary import UnconstrainableError
from gateway_hf.constrain.workers import Workers
from gateway_hf.engine import HfEngine
from gateway_hf.runner import Runner
from gateway_hf.settings import Settings
from gateway_hf.text.codec import TextCodec
from tests.support.hf_engine import ask

_PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def settings(tiny):
    return Settings(
        model=str(tiny("llama")), dtype="float32", threads=1, places=8, cache_tokens=4096, compile_seconds=0.5
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(settings):
    """One for all: what compiles takes a second to start."""
    async with HfEngine(settings) as engine:
        yield engine


async def _said(engine, constraint, **sampling):
    """Say an answer that is held to a constraint, with nothing left to chance but by its seed."""
    request = ask(sampling=Sampling(**{"max_tokens": 200, "temperature": 1.0, "seed": 1} | sampling))
    return await collect(engine.generate(structs.replace(request, constraint=constraint)))


@pytest.mark.parametrize("seed", range(5))
async def test_a_schema_is_kept(engine, seed):
    answer = await _said(engine, JsonSchema(_PERSON), seed=seed)
    assert answer.finished.reason is FinishReason.STOP
    jsonschema.validate(json.loads(answer.text), _PERSON)


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        (Choice(("red", "green", "greener")), "red|green|greener"),
        (Regex("[0-9]{2}-[a-f]+x"), "[0-9]{2}-[a-f]+x"),
        (Grammar('root ::= "a" [0-9]{1,4} "."'), r"a[0-9]{1,4}\."),
        (Grammar('start: "x" /[a-z ]{3,9}/ "!"'), "x[a-z ]{3,9}!"),
    ],
)
async def test_every_kind_of_constraint_is_kept(engine, constraint, pattern):
    answers = [await _said(engine, constraint, seed=seed) for seed in range(4)]
    assert all(re.fullmatch(pattern, answer.text) for answer in answers)
    assert {answer.finished.reason for answer in answers} == {FinishReason.STOP}


async def test_answers_side_by_side_keep_each_its_own(engine):
    kinds = [JsonSchema(_PERSON), Choice(("yes", "no")), Regex("[0-9]{12}"), None]
    answers = await asyncio.gather(*(_said(engine, kinds[at % 4], seed=at, max_tokens=120) for at in range(16)))
    alone = [await _said(engine, kinds[at % 4], seed=at, max_tokens=120) for at in range(4)]
    assert [answer.text for answer in answers[:4]] == [answer.text for answer in alone]
    for schema, choice, number, _ in zip(*[iter(answers)] * 4, strict=True):
        jsonschema.validate(json.loads(schema.text), _PERSON)
        assert choice.text in {"yes", "no"}
        assert re.fullmatch("[0-9]{12}", number.text)


async def test_what_a_grammar_forces_takes_no_pass(engine, monkeypatch):
    passes = []
    run = Runner.run
    monkeypatch.setattr(Runner, "run", lambda runner, chunks: passes.append(len(chunks)) or run(runner, chunks))
    text = "the same words again and again, which are many more tokens than passes"
    answer = await _said(engine, Choice((text,)))
    assert answer.text == text
    assert answer.finished.usage.completion_tokens > 20
    assert len(passes) <= 2  # one for the prompt, and one in which the answer may end


async def test_log_probabilities_do_not_change_the_text(engine):
    plain = await _said(engine, JsonSchema(_PERSON), seed=3)
    scored = await _said(engine, JsonSchema(_PERSON), seed=3, logprobs=2)
    assert scored.text == plain.text
    assert scored.finished.usage == plain.finished.usage
    assert b"".join(each.encoded for each in scored.logprobs) == scored.text.encode()
    # They are the model's own, of which a constraint takes nothing away: a token that was forced may be unlikely.
    assert min(each.logprob for each in scored.logprobs) < -3


async def test_an_answer_that_is_cut_says_so(engine):
    answer = await _said(engine, JsonSchema(_PERSON), max_tokens=5)
    assert answer.finished.reason is FinishReason.LENGTH
    assert answer.text.startswith('{"')


async def test_a_stop_text_cuts_a_constrained_answer(engine):
    answer = await _said(engine, JsonSchema(_PERSON), stop=("age",))
    assert (answer.finished.reason, answer.finished.stop) == (FinishReason.STOP, "age")
    assert answer.text.endswith('", "')


async def test_an_answer_has_min_tokens_or_is_refused(engine):
    answer = await _said(engine, Regex("[ab]{1,40}"), min_tokens=8, max_tokens=30)
    assert answer.finished.usage.completion_tokens > 8
    with pytest.raises(InvalidRequest, match="min_tokens"):
        await _said(engine, Choice(("yes",)), min_tokens=50)


async def test_an_ignored_end_comes_when_nothing_else_can(engine):
    answer = await _said(engine, Regex("[ab]{4,9}"), ignore_eos=True)
    assert answer.finished.reason is FinishReason.STOP
    assert len(answer.text) == 9


async def test_penalties_and_biases_hold_within_the_constraint(engine):
    *_, a = await engine.tokenize("m", ask("a").prompt)
    answer = await _said(engine, Regex("[ab]{9}"), logit_bias={a: -100.0}, temperature=0.0)
    assert answer.text == "b" * 9


async def test_tokens_that_are_banned_leave_the_rest(engine):
    answer = await _said(engine, Choice(("red", "green")), bad_words=("red", "r"))
    assert answer.text == "green"
    with pytest.raises(InvalidRequest, match="bad_words"):
        await _said(engine, Choice(("r",)), bad_words=("r",))


@pytest.mark.parametrize(
    ("constraint", "param", "told"),
    [
        (JsonSchema({"items": {"not": {}}}), "json_schema", r"\$\.items\.not"),
        (Regex("(?=a)"), "regex", "look-ahead"),
        (Grammar("start: x"), "grammar", "unknown name"),
    ],
)
async def test_what_cannot_be_compiled_is_refused_before_any_work(engine, monkeypatch, constraint, param, told):
    monkeypatch.setattr(TextCodec, "encode", lambda *_: pytest.fail("the prompt was read"))
    with pytest.raises(InvalidRequest, match=told) as refused:
        await _said(engine, constraint)
    assert refused.value.param == param


def _find_faults(run):
    """Have workers compile as they do, and find a fault in whatever they check."""
    return lambda workers, job: run(workers, job) if job.text is None else JobResult(fault="it is none of the choices")


async def _kinds(engine, constraint):
    """Say the kinds of what comes of a request, the error among them."""
    kinds = []
    try:
        async for event in engine.generate(
            structs.replace(ask(sampling=Sampling(max_tokens=20)), constraint=constraint)
        ):
            kinds.append(type(event).__name__)  # noqa: PERF401 - what came before the error counts
    except EngineError as error:
        kinds.append(type(error).__name__)
    return kinds


async def test_an_answer_that_breaks_its_constraint_is_never_finished(engine, monkeypatch):
    monkeypatch.setattr(Workers, "run", _find_faults(Workers.run))
    assert await _kinds(engine, Choice(("red",))) == ["Started", "Delta", "EngineError"]


async def test_a_model_that_cannot_be_constrained_says_so(settings, monkeypatch, caplog):
    def refuse(*_):
        raise UnconstrainableError("its tokenizer is of a kind that is not known")

    monkeypatch.setattr(TextCodec, "vocabulary", refuse)
    async with HfEngine(settings) as engine:
        (card,) = engine.models()
        assert not card.capabilities & {Capability.JSON_SCHEMA, Capability.REGEX, Capability.GRAMMAR}
        assert "of a kind that is not known" in caplog.text
        with pytest.raises(Unsupported) as refused:
            await _said(engine, JsonObject())
    assert refused.value.param == "json_object"


def _deep():
    schema = {"type": "string"}
    for at in range(11):  # each level doubles it
        schema = {"oneOf": [_object(f"x{at}", schema), _object(f"y{at}", schema)]}
    return schema


def _object(name, schema):
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


_HOSTILE = {
    "deep oneOf": JsonSchema(_deep()),
    "long automaton": Regex("[ab]*a[ab]{13}"),
    "long automaton in a schema": JsonSchema({"type": "string", "pattern": "^[ab]*a[ab]{13}$"}),
    "many values": JsonSchema({"enum": [f"value {at}" for at in range(10_000)]}),
    "many choices": Choice(tuple(f"value {at}" for at in range(10_000))),
    "recursion": JsonSchema({"$ref": "#/$defs/a", "$defs": {"a": _object("a", {"$ref": "#/$defs/a"})}}),
    "loop": JsonSchema({"$ref": "#"}),
    "remote": JsonSchema({"$ref": "https://example.com/schema.json"}),
    "long run": Regex("a{1,100000}"),
    "run of runs": Regex("(a{1,1000}b{1,1000}){1,1000}"),
    "tower": Regex("a" + "{1,2}" * 200),
    "ambiguous": Regex("(a+)+$"),
    "left recursion": Grammar('start: start "a" | start start | "b"'),
    "right recursion": Grammar('start: "a" start | "a" start start | "b"'),
    "empty recursion": Grammar("start: start | "),
    "many rules": Grammar("start: " + " | ".join(f'"a{at}"' for at in range(50_000))),
    "parentheses": Grammar("start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "parentheses in GBNF": Grammar("root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
}


@pytest.mark.parametrize("name", _HOSTILE)
async def test_a_hostile_constraint_is_followed_or_refused_and_hurts_nobody(engine, name):
    neighbour = asyncio.create_task(_said(engine, None, seed=1, max_tokens=30, ignore_eos=True))
    try:
        said = (await _said(engine, _HOSTILE[name], max_tokens=12)).finished.usage.completion_tokens <= 12
    except EngineError as error:
        said = isinstance(error, InvalidRequest) or "constraint" in error.message
    assert said
    assert (await neighbour).finished.usage.completion_tokens == 30
    assert (await _said(engine, Choice(("yes",)))).text == "yes"


async def test_a_budget_that_is_spent_is_the_constraints_fault(engine):
    with pytest.raises(InvalidRequest, match=r"0\.5 s of processor time or 128 MiB; make it simpler") as refused:
        await _said(engine, _HOSTILE["many rules"])
    assert refused.value.param == "grammar"
