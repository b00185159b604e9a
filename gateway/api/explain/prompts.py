"""What an engine is asked about the prompts of a request that is explained: one turn for each."""

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

from msgspec import structs

from gateway.admission import reading_cost
from gateway.engine import (
    Capability,
    Completion,
    ContextTooLong,
    EmbedRequest,
    Engine,
    GenerateRequest,
    ModelCard,
    PromptReading,
    ScoreRequest,
    Tokens,
)
from gateway.hosting.route import Target
from gateway.inflight import InFlightRequest
from gateway.questions import Inquiry, Questions

_NOTHING_READ = PromptReading()


class ReadPrompt(NamedTuple):
    """A prompt as one of the engines of a route would read it, the first that has room for it."""

    target: Target
    reading: PromptReading


async def read_prompt(questions: Questions, inquiry: Inquiry, entry: InFlightRequest, salt: str) -> ReadPrompt:
    """Ask the engine of a request about its prompt, or where that is too long the next of the route with more room.

    An engine that does not serve now is not asked. Raises `EngineError`.
    """
    route = entry.target.route
    targets = (entry.target,) if route is None else route.targets
    target = targets[0]
    for target, other in zip_longest(targets, targets[1:]):
        if not target.hosted.is_up:
            break
        request = structs.replace(entry.request, model=target.card.name, salt=salt, trace=None)
        try:
            return ReadPrompt(target, await _fitted(questions, inquiry._replace(target=target), entry, request))
        except ContextTooLong:
            if other is None or other.card.context_window <= target.card.context_window:
                raise
    return ReadPrompt(target, _NOTHING_READ)


async def _fitted(
    questions: Questions, inquiry: Inquiry, entry: InFlightRequest, request: GenerateRequest
) -> PromptReading:
    """Ask about a prompt, or about what is left of it once that fits."""
    shorten = entry.shorten_at(inquiry.target)
    while True:
        try:
            return await questions.ask_engine(inquiry, reading_cost(request.prompt), partial(_explain, request))
        except ContextTooLong:
            shorter = None if shorten is None else shorten(request)
            if shorter is None:
                raise
            request = shorter


async def _explain(request: GenerateRequest, engine: Engine) -> PromptReading:
    return await engine.explain(request)


def texts_of(request: EmbedRequest | ScoreRequest) -> tuple[Completion | Tokens, ...]:
    """List the texts of a question: of pairs the queries come first."""
    return request.inputs if isinstance(request, EmbedRequest) else (*request.queries, *request.documents)


async def read_texts(
    questions: Questions, inquiry: Inquiry, texts: Sequence[Completion | Tokens], most: int | None
) -> list[PromptReading]:
    """Ask an engine for the tokens of texts, of which it reads `most`; raise `ContextTooLong` for one that is longer.

    An engine that does not serve now, or shows no tokens, is not asked.
    """
    card = inquiry.target.card
    if not inquiry.target.hosted.is_up or Capability.TOKENIZE not in card.capabilities:
        return [PromptReading(text=getattr(text, "text", None)) for text in texts]
    cost = sum(map(reading_cost, texts))

    async def ask(engine: Engine) -> list[PromptReading]:
        return [_reading(text, await _ids(engine, card, text), card, most) for text in texts]

    return await questions.ask_engine(inquiry, cost, ask)


async def _ids(engine: Engine, card: ModelCard, text: Completion | Tokens) -> tuple[int, ...]:
    return text.ids if isinstance(text, Tokens) else await engine.tokenize(card.name, text)


def _reading(text: Completion | Tokens, ids: tuple[int, ...], card: ModelCard, most: int | None) -> PromptReading:
    if most is None and len(ids) > card.context_window:
        raise ContextTooLong(f"a text has {len(ids)} tokens; the context has {card.context_window}", param="prompt")
    return PromptReading(len(ids[:most]), ids[:most], getattr(text, "text", None))
