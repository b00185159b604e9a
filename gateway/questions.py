"""What a client may ask of a model beside an answer: questions take no place in the batch."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.auth import Caller
from gateway.config.snapshot import CurrentConfig
from gateway.engine import Capability, Chat, Engine, Prompt, TokenSpelling, prompt_needs, require
from gateway.flow.deadline import Deadline
from gateway.hosting.hosting import Hosting
from gateway.hosting.routing import Target
from gateway.limits import Limiter

T = TypeVar("T")


class Questions:
    """Asks the engine of a model; each question is one request of the caller's limits, and costs no tokens."""

    def __init__(self, hosting: Hosting, limiter: Limiter, current: CurrentConfig) -> None:
        self._hosting = hosting
        self._limiter = limiter
        self._current = current

    async def count_tokens(self, target: Target, prompt: Prompt, caller: Caller) -> int:
        """Count the tokens of a prompt."""
        needed = prompt_needs(prompt) | {Capability.TOKEN_COUNT}
        return await self._ask(target, needed, caller, lambda engine: engine.count_tokens(target.card.name, prompt))

    async def tokenize(self, target: Target, prompt: Prompt, caller: Caller) -> tuple[int, ...]:
        """Return the ids of a prompt's tokens."""
        needed = prompt_needs(prompt) | {Capability.TOKENIZE}
        return await self._ask(target, needed, caller, lambda engine: engine.tokenize(target.card.name, prompt))

    async def detokenize(self, target: Target, ids: tuple[int, ...], caller: Caller) -> tuple[str, ...]:
        """Return the piece of text of each token."""
        needed = frozenset({Capability.TOKENIZE})
        return await self._ask(target, needed, caller, lambda engine: engine.detokenize(target.card.name, ids))

    async def spell(self, target: Target, ids: tuple[int, ...], caller: Caller) -> tuple[TokenSpelling, ...]:
        """Return how the vocabulary spells each token."""
        needed = frozenset({Capability.TOKENIZE})
        return await self._ask(target, needed, caller, lambda engine: engine.spell(target.card.name, ids))

    async def render(self, target: Target, chat: Chat, caller: Caller) -> str:
        """Return a conversation as the model's template writes it."""
        needed = prompt_needs(chat) | {Capability.TOKENIZE}
        return await self._ask(target, needed, caller, lambda engine: engine.render(target.card.name, chat))

    async def _ask(
        self,
        target: Target,
        needed: frozenset[Capability],
        caller: Caller,
        question: Callable[[Engine], Awaitable[T]],
    ) -> T:
        require(needed, target.card)
        config = self._current.config
        deadline = Deadline(config.server.request_seconds)
        quota = caller.quota_or(config.limits.default)
        async with (
            deadline,
            self._hosting.lease(target.hosted, deadline) as engine,
            self._limiter.hold(caller.id, quota, 0),
        ):
            deadline.arm()
            return await deadline.wait(question(engine))
