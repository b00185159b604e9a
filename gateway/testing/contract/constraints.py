"""Rules about answers that are held to a shape."""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import aclosing

import pytest
from msgspec import structs

from gateway.engine import (
    Answer,
    Capability,
    Choice,
    Constraint,
    Engine,
    FinishReason,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import broken, expect

_CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
_COLOURS = ("red", "green")
_SENTENCE = "one two three four five six seven eight"


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


_KEPT = {
    "choice": (Capability.CHOICE, Choice(_COLOURS), lambda text: text in _COLOURS),
    "regex": (Capability.REGEX, Regex("[0-9]{2}"), lambda text: re.fullmatch("[0-9]{2}", text)),
    "json_object": (Capability.JSON_OBJECT, JsonObject(), lambda text: isinstance(_read(text), dict)),
    "json_schema": (
        Capability.JSON_SCHEMA,
        JsonSchema(_CITY),
        lambda text: _read(text) in ({"city": "Paris"}, {"city": "Rome"}),
    ),
    "grammar": (Capability.GRAMMAR, Grammar('root ::= "yes" | "no"'), lambda text: text in {"yes", "no"}),
}
_BROKEN = {
    "choice": (Capability.CHOICE, Choice(())),
    "regex": (Capability.REGEX, Regex("(unclosed")),
    "json_schema": (Capability.JSON_SCHEMA, JsonSchema({"type": "nonsense"})),
    "grammar": (Capability.GRAMMAR, Grammar("root ::= nowhere")),
}


class ConstraintRules(Subject):
    """An answer that ended by itself keeps its constraint; what cannot be kept is refused."""

    @pytest.mark.parametrize(("capability", "constraint", "keeps"), _KEPT.values(), ids=_KEPT)
    async def test_a_constraint_is_kept(
        self, engine: Engine, capability: Capability, constraint: Constraint, keeps: Callable[[str], object]
    ) -> None:
        """Kills: a constraint that is taken for a wish."""
        self.require(engine, capability)
        heats = (0.0, 1.0) if Capability.TEMPERATURE in self.card(engine).capabilities else (None,)
        for heat in heats:
            answer = await self._held(engine, constraint, temperature=heat, max_tokens=200)
            # A JSON object has no length, so a model that does not come to its end is cut.
            if answer.finished.reason is not FinishReason.LENGTH or not isinstance(constraint, JsonObject):
                _expect_kept(answer, constraint, keeps)

    @pytest.mark.parametrize(("capability", "constraint", "keeps"), _KEPT.values(), ids=_KEPT)
    async def test_a_constraint_ends_an_answer_that_ignores_the_end(
        self, engine: Engine, capability: Capability, constraint: Constraint, keeps: Callable[[str], object]
    ) -> None:
        """Kills: going on behind a sentence that is complete."""
        self.require(engine, capability, Capability.IGNORE_EOS)
        if isinstance(constraint, JsonObject):
            pytest.skip("a JSON object has no length")
        _expect_kept(await self._held(engine, constraint, ignore_eos=True, max_tokens=200), constraint, keeps)

    async def test_a_constrained_answer_that_is_cut_says_length(self, engine: Engine) -> None:
        """Kills: the beginning of a sentence that is told as all of it."""
        self.require(engine, Capability.CHOICE)
        answer = await self._held(engine, Choice((_SENTENCE,)), max_tokens=1)
        reason = answer.finished.reason
        expect(reason is FinishReason.LENGTH, f"One token of {_SENTENCE!r} ends as {reason}, not as length.", Choice)
        expect(
            _SENTENCE.startswith(answer.text),
            f"The answer {answer.text!r:.80} is no beginning of {_SENTENCE!r}.",
            Choice,
        )

    async def test_a_stop_string_holds_under_a_constraint(self, engine: Engine) -> None:
        """Kills: a constrained answer that nothing looks through for its stops."""
        self.require(engine, Capability.CHOICE)
        answer = await self._held(engine, Choice((_SENTENCE,)), stop=("three",), max_tokens=200)
        expect(
            answer.text == "one two ", f"With the stop 'three', {_SENTENCE!r} is cut to {answer.text!r:.80}.", Choice
        )
        if self.names_stops:
            stop = answer.finished.stop
            expect(stop == "three", f"The answer met the stop 'three', and `Finished` names {stop!r}.", Choice)

    async def test_constraints_side_by_side_keep_apart(self, engine: Engine) -> None:
        """Kills: one state for all answers with a constraint."""
        self.require(engine, Capability.CHOICE)
        options = [f"{name} {_SENTENCE}" for name in ("first", "second", "third", "fourth")]
        answers = await asyncio.gather(*(self._held(engine, Choice((option,)), max_tokens=200) for option in options))
        texts = [answer.text for answer in answers]
        expect(texts == options, f"Of four choices side by side the answers are {texts!r:.200}.", Choice)

    @pytest.mark.parametrize(("capability", "constraint"), _BROKEN.values(), ids=_BROKEN)
    async def test_a_constraint_that_cannot_be_kept_is_refused_before_started(
        self, engine: Engine, capability: Capability, constraint: Constraint
    ) -> None:
        """Kills: an answer that begins, and breaks where its constraint does."""
        self.require(engine, capability)
        told = 0
        request = structs.replace(self.request(engine, ignore_eos=False), constraint=constraint)
        try:
            async with aclosing(self.stream(engine, request)) as stream:
                async for _ in stream:
                    told += 1
        except InvalidRequest as error:
            expect(not told, f"{constraint!r:.80} is refused behind {told} events.", InvalidRequest)
            expect(
                error.param == capability,
                f"The refusal of {constraint!r:.80} names {error.param!r}; name the kind, {capability.value!r}.",
                InvalidRequest,
            )
            return
        broken(f"Nothing keeps to {constraint!r:.80}, and it was answered.", InvalidRequest)

    async def _held(self, engine: Engine, constraint: Constraint, **sampling: object) -> Answer:
        chosen = {"ignore_eos": False} | sampling
        listed = {name: value for name, value in chosen.items() if name in self.card(engine).capabilities}
        request = structs.replace(self.request(engine, None, **listed), constraint=constraint)
        return await self.answer_to(engine, request)


def _expect_kept(answer: Answer, constraint: Constraint, keeps: Callable[[str], object]) -> None:
    text, reason = answer.text, answer.finished.reason
    expect(keeps(text), f"The answer {text!r:.80} does not keep to {constraint!r:.80}.", type(constraint))
    expect(reason is FinishReason.STOP, f"The answer {text!r:.80} is complete, and ends as {reason}.", FinishReason)
