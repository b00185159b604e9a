"""An engine that breaks a rule is told so in a sentence, at once, and where to read on."""

import asyncio

import pytest

from gateway.engine import (
    Capability,
    Completion,
    Delta,
    Engine,
    Finished,
    FinishReason,
    LoadFailed,
    ModelCard,
    Started,
    Usage,
)
from gateway.testing.contract import EngineContract

CAN = frozenset({Capability.COMPLETION, Capability.MAX_TOKENS, Capability.STOP})
CARD = ModelCard(name="m", context_window=99, capabilities=CAN)
FINISHED = Finished(FinishReason.STOP, Usage(3, 1))


class Contract(EngineContract):
    patience = 0.05
    slow_tokens = 20


class Stub(Engine):
    """Tells the events it was given, and then does what it was told."""

    def __init__(self, *events, then=None):
        self._events, self._then = events or (Started(3), Delta("hi"), FINISHED), then

    def models(self):
        return [CARD]

    async def generate(self, request):
        for event in self._events:
            yield event
        if self._then is not None:
            await self._then()


class NoGenerator(Stub):
    async def generate(self, request):
        return Finished(FinishReason.STOP, Usage(1, 1))


class PlainGenerator(Stub):
    def generate(self, request):
        yield Started(1)


class AsyncModels(Stub):
    async def models(self):
        return [CARD]


class NoCards(Stub):
    def models(self):
        return ["m"]


class Slash(Stub):
    def models(self):
        return [ModelCard(name="me/hello", context_window=9, capabilities=CAN)]


class Raising(Stub):
    async def status(self):
        raise LoadFailed("no")


class Twice(Stub):
    async def __aexit__(self, *_):
        del self._events


def said(rule, engine, *arguments):
    """Run one rule over an engine and return the sentence that it ends in."""
    with pytest.raises(pytest.fail.Exception) as caught:
        asyncio.run(getattr(Contract(), f"test_{rule}")(engine, *arguments))
    sentence, _, read_on = str(caught.value).partition("\nRead on: ")
    assert sentence.endswith((".", "…"))
    assert read_on.startswith("help(gateway.")
    assert "plugins/README.md" in read_on
    return sentence


@pytest.mark.parametrize(
    ("rule", "engine", "sentence"),
    [
        (
            "a_stream_is_started_then_deltas_then_finished",
            Stub(Delta("a"), FINISHED),
            "begins with `Started`; this one",
        ),
        ("a_stream_is_started_then_deltas_then_finished", Stub(Started(3), Delta("a")), "ends with `Finished`"),
        ("a_stream_is_started_then_deltas_then_finished", Stub(Started(3), "a", FINISHED), "'a', which is no event"),
        ("a_stream_is_started_then_deltas_then_finished", Stub(then=asyncio.Event().wait), "It did not within 0.05 s."),
        (
            "usage_covers_the_deltas",
            Stub(Started(3), Delta("a", 2), FINISHED),
            "carry 2 tokens and `Finished` counts 1",
        ),
        ("usage_covers_the_deltas", Stub(Started(9), Delta("a"), FINISHED), "`Started` says 9 tokens of prompt"),
        ("max_tokens_is_never_exceeded", Stub(Started(3), Finished(FinishReason.STOP, Usage(3, 5))), "has 5."),
        ("the_stop_string_that_was_met_is_reported", Stub(), "set `names_stops = False`"),
        ("a_too_long_prompt_is_refused_before_started", Stub(), "in place of raising ContextTooLong."),
        ("eight_answers_side_by_side_keep_apart", Stub(), "set `constant = True`."),
        ("a_served_name_has_no_slash", Slash(), "The model's name 'me/hello' is empty or has a slash"),
        ("a_card_lists_what_every_model_can", AsyncModels(), "`models` is an `async def`"),
        ("a_card_lists_what_every_model_can", NoCards(), "not a list of ModelCard."),
        ("cards_and_status_survive_the_wire", NoCards(), "not a list of ModelCard."),
    ],
)
def test_a_broken_rule_is_a_sentence(rule, engine, sentence):
    assert sentence in said(rule, engine)


def test_a_status_that_raises_and_an_end_that_comes_once_are_sentences():
    assert "`status` raises LoadFailed('no') before the engine is entered" in said("status_never_raises", Raising)
    assert "Leaving the engine again raises AttributeError" in said("leaving_twice_is_harmless", Twice)


_ASKING = [
    "a_stream_is_started_then_deltas_then_finished",
    "usage_covers_the_deltas",
    "a_told_event_never_changes",
    "closing_the_stream_frees_its_place",
    "cancelling_the_reader_frees_its_place",
    "an_unread_stream_takes_no_place",
    "a_too_long_prompt_is_refused_before_started",
]


@pytest.mark.parametrize("rule", _ASKING)
def test_a_generate_without_yield_is_told_at_once(rule, monkeypatch):
    monkeypatch.setattr(Contract, "patience", 3600.0)
    assert "returns a coroutine: an `async def` without a `yield`" in said(rule, NoGenerator())
    assert "returns a generator, no asynchronous generator" in said(rule, PlainGenerator())


async def test_a_stop_string_that_an_engine_cannot_name_is_no_fault(monkeypatch):
    monkeypatch.setattr(Contract, "names_stops", False)
    with pytest.raises(pytest.skip.Exception, match="names_stops"):
        await Contract().test_the_stop_string_that_was_met_is_reported(Stub())


async def test_a_prompt_whose_length_is_known_at_the_end_is_no_fault():
    rules = Contract()
    await rules.test_usage_covers_the_deltas(Stub(Started(None), Delta("a"), FINISHED))
    request = rules.request(Stub(), Completion("x"))
    assert (await rules.sentence(Stub(Started(None), FINISHED), request))[0].prompt_tokens is None


@pytest.mark.parametrize(("made", "sentence"), [(object(), "no gateway.engine.Engine"), (None, "NoneType")])
async def test_a_fixture_that_makes_no_engine_is_a_sentence(made, sentence):
    entering = Contract.engine.__wrapped__(Contract(), lambda: made)
    with pytest.raises(pytest.fail.Exception, match=sentence):
        await anext(entering)


async def test_an_engine_that_is_not_what_entering_returns_is_a_sentence():
    class Nobody(Stub):
        async def __aenter__(self):
            pass

    with pytest.raises(pytest.fail.Exception, match="end it with `return self`"):
        await anext(Contract.engine.__wrapped__(Contract(), Nobody))


def test_a_rule_is_excused_by_its_name_and_with_a_reason(monkeypatch, request):
    Contract._excuse.__wrapped__(Contract(), request)
    monkeypatch.setattr(Contract, "excused", {request.node.originalname: "what is behind it cannot"})
    with pytest.raises(pytest.skip.Exception, match="excused: what is behind it cannot"):
        Contract._excuse.__wrapped__(Contract(), request)
    with pytest.raises(TypeError, match="test_a_typo"):
        type("Wrong", (Contract,), {"excused": {"test_a_typo": "there is no such rule"}})
