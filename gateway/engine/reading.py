"""What a prompt is to an engine that answers questions about tokens, and says no more of it."""

from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.engine.errors import Unsupported
from gateway.engine.events import PromptReading
from gateway.engine.limit import answer_limit
from gateway.engine.types import Capability, Chat, Completion, GenerateRequest, ModelCard

if TYPE_CHECKING:
    from gateway.engine.base import Engine


async def read_prompt(engine: "Engine", request: GenerateRequest) -> PromptReading:
    """Say what the questions tell that the model's card lists; raise `ContextTooLong` or `InvalidRequest`."""
    card = next(card for card in engine.models() if card.name == request.model)
    ids = await _tokens(engine, request, card)
    count = len(ids) if ids is not None else await _count(engine, request, card)
    return PromptReading(
        prompt_tokens=count,
        ids=ids,
        text=await _text(engine, request, card),
        max_tokens=None if count is None else answer_limit(request.sampling, count, card.under(request.defaults)),
    )


async def _tokens(engine: "Engine", request: GenerateRequest, card: ModelCard) -> tuple[int, ...] | None:
    if Capability.TOKENIZE not in card.capabilities:
        return None
    ids = await engine.tokenize(card.name, request.prompt)
    if request.truncate is None:
        return ids
    return ids[: request.truncate] if request.truncation_side == "right" else ids[-request.truncate :]


async def _count(engine: "Engine", request: GenerateRequest, card: ModelCard) -> int | None:
    if Capability.TOKEN_COUNT not in card.capabilities:
        return None
    count = await engine.count_tokens(card.name, request.prompt)
    return count if request.truncate is None else min(count, request.truncate)


async def _text(engine: "Engine", request: GenerateRequest, card: ModelCard) -> str | None:
    match request.prompt:
        case Completion(text):
            return text
        case Chat() as chat if Capability.TOKENIZE in card.capabilities:
            with suppress(Unsupported):  # not every server shows its template
                return await engine.render(card.name, chat)
    return None
