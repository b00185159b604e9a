"""A script that ends outside of its constraint fails, and never says that it has ended."""

import pytest
from msgspec import structs

from gateway.engine import (
    Choice,
    Delta,
    EngineError,
    FinishReason,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Unsupported,
    collect,
)
from gateway.testing.script import Script
from gateway.testing.scripted import ScriptedEngine, Settings
from tests.support.asking import request


async def tell(constraint, *texts, **sampling):
    asked = structs.replace(request("hi", **sampling), constraint=constraint)
    async with ScriptedEngine(Settings(script=Script(texts=texts))) as engine:
        return [event async for event in engine.generate(asked)]


@pytest.mark.parametrize(
    ("constraint", "kept", "broken"),
    [
        (Choice(("yes", "no")), "yes", "perhaps"),
        (Regex("[0-9]+"), "42", "42 "),
        (JsonObject(), '{"a": 1}', "[1]"),
        (JsonObject(), "{}", "{"),
        (None, "anything", None),
    ],
)
async def test_only_what_keeps_to_the_constraint_ends(constraint, kept, broken):
    assert (await tell(constraint, kept))[-1].reason is FinishReason.STOP
    if broken is not None:
        with pytest.raises(EngineError, match="outside of the constraint"):
            await tell(constraint, broken)


async def test_what_is_cut_may_be_a_beginning():
    events = await tell(Choice(("yes no",)), "yes ", "no", max_tokens=1)
    assert (events[1], events[-1].reason) == (Delta("yes "), FinishReason.LENGTH)
    assert (await tell(Choice(("yes no",)), "yes ", "no", stop=("no",)))[-1].stop == "no"


@pytest.mark.parametrize(
    ("constraint", "kind"),
    [(Regex("("), InvalidRequest), (JsonSchema({}), Unsupported), (Grammar("a"), Unsupported)],
)
async def test_what_cannot_be_held_against_is_refused_before_anything_is_said(constraint, kind):
    engine = ScriptedEngine(Settings())
    async with engine:
        with pytest.raises(kind) as refused:
            await collect(engine.generate(structs.replace(request("hi"), constraint=constraint)))
    assert refused.value.param == type(constraint).__struct_config__.tag
