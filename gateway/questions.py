"""Questions about a prompt: its tokens, its text, its template. They take no place in the batch, and wait their turn.

A question is bounded as a generation is: by its own deadline, by the limits of its caller, by the few that a model
answers at once, and by the queue for them, which is fair by caller. It costs tokens by what there is to read.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import structs

from gateway.admission import Admission, Standby, WaitLimits, pairs_bound, prompt_bound, reading_cost
from gateway.auth import Caller
from gateway.config.snapshot import CurrentConfig
from gateway.engine import (
    Capability,
    Chat,
    ContextTooLong,
    Embeddings,
    EmbedRequest,
    Engine,
    GenerateRequest,
    ModelCard,
    Prompt,
    ScoreRequest,
    Started,
    TextScores,
    Tokens,
    TokenSpelling,
    prompt_needs,
    require,
)
from gateway.flow.deadline import Deadline
from gateway.hosting.hosting import Hosting
from gateway.hosting.route import Target
from gateway.inflight import account_of
from gateway.limits import Allowance, Limiter

T = TypeVar("T")

# Ids that are turned into text at most, where the model's own context is shorter: some megabytes of text.
MOST_IDS = 65_536

_TOKENIZE = frozenset({Capability.TOKENIZE})
_COUNT = frozenset({Capability.TOKEN_COUNT})
_DESCRIBE = frozenset({Capability.TOKENIZER_INFO})
_EMBED = frozenset({Capability.EMBEDDING})
_SCORE = frozenset({Capability.SCORE})
_CLASSIFY = frozenset({Capability.CLASSIFY})


class Inquiry(NamedTuple):
    """The circumstances of a question: the model, the caller, and the seconds that it may take, `None` for the most.

    `weight` is that of its body, as bytes of plain text. Work that no client waits for says in `standby` how it gives
    way. Several questions that are one request for the limits share an `allowance`, which is entered around them.
    """

    target: Target
    caller: Caller
    seconds: float | None = None
    weight: int = 0
    standby: Standby | None = None
    allowance: Allowance | None = None


class EngineQuestion(NamedTuple, Generic[T]):
    """A question to an engine, with a bound of its cost in tokens, and the cost by its answer."""

    ask: Callable[[Engine], Awaitable[T]]
    bound: int
    cost: Callable[[T], int]


class Questions:
    """Asks the engine of a model; each question is one request of the caller's limits, and costs what it has to read.

    Raises what a generation raises: `Overloaded` or `QueueTimeout` before its turn, `DeadlineExceeded` after it.
    """

    def __init__(self, hosting: Hosting, admission: Admission, limiter: Limiter, current: CurrentConfig) -> None:
        self._hosting = hosting
        self._admission = admission
        self._limiter = limiter
        self._current = current

    async def count_tokens(self, inquiry: Inquiry, prompt: Prompt) -> int:
        """Count the tokens of a prompt."""
        model = inquiry.target.card.name
        return await self._ask(inquiry, prompt, _COUNT, lambda engine: engine.count_tokens(model, prompt))

    async def tokenize(self, inquiry: Inquiry, prompt: Prompt) -> tuple[int, ...]:
        """Return the ids of a prompt's tokens."""
        model = inquiry.target.card.name
        return await self._ask(inquiry, prompt, _TOKENIZE, lambda engine: engine.tokenize(model, prompt))

    async def spell(self, inquiry: Inquiry, prompt: Prompt) -> tuple[tuple[int, TokenSpelling], ...]:
        """Return the ids of a prompt's tokens, each with its spelling in the vocabulary; for the limits one request."""
        model = inquiry.target.card.name

        async def spell(engine: Engine) -> tuple[tuple[int, TokenSpelling], ...]:
            ids = await engine.tokenize(model, prompt)
            return tuple(zip(ids, await engine.spell(model, ids), strict=True))

        return await self._ask(inquiry, prompt, _TOKENIZE, spell)

    async def detokenize(self, inquiry: Inquiry, ids: tuple[int, ...]) -> tuple[str, ...]:
        """Return the piece of text of each token; raise `ContextTooLong` for more than any reply may hold."""
        card = inquiry.target.card
        most = max(card.context_window, MOST_IDS)
        if len(ids) > most:
            raise ContextTooLong(f"there are {len(ids)} tokens; {most} are the most at once", param="tokens")
        return await self._ask(inquiry, Tokens(ids), _TOKENIZE, lambda engine: engine.detokenize(card.name, ids))

    async def tokenizer_info(self, inquiry: Inquiry) -> dict[str, Any]:
        """Return the configuration of a model's tokenizer."""
        model = inquiry.target.card.name
        return await self._ask(inquiry, Tokens(()), _DESCRIBE, lambda engine: engine.tokenizer_info(model))

    async def render(self, inquiry: Inquiry, chat: Chat) -> str:
        """Return a conversation as the model's template writes it."""
        model = inquiry.target.card.name
        return await self._ask(inquiry, chat, _TOKENIZE, lambda engine: engine.render(model, chat))

    def hold(self, caller: Caller, cost: int) -> Allowance:
        """Make the allowance of several questions of a caller, which cost so many tokens together."""
        return self._limiter.hold(account_of(caller, None), caller.quota_or(self._current.config.limits.default), cost)

    async def ask_engine(self, inquiry: Inquiry, cost: int, ask: Callable[[Engine], Awaitable[T]]) -> T:
        """Ask anything that reads so many tokens; it has its turn as any question of that cost has."""
        return await self._take_turn(inquiry, Tokens(()), EngineQuestion(ask, cost, lambda _: cost))

    async def embed(self, inquiry: Inquiry, request: EmbedRequest) -> Embeddings:
        """Return the vectors of texts; they cost their tokens, for all of these are computed."""
        check_needs(request, inquiry.target.card)
        seconds = self._seconds(inquiry)

        def ask(engine: Engine) -> Awaitable[Embeddings]:
            return engine.embed(structs.replace(request, timeout=seconds))

        bound = cost_bound(request, inquiry.target.card)
        return await self._take_turn(inquiry, Tokens(()), EngineQuestion(ask, bound, lambda made: made.prompt_tokens))

    async def score(self, inquiry: Inquiry, request: ScoreRequest) -> TextScores:
        """Return the scores of documents, or what classes they are of; they cost the tokens of each pair."""
        check_needs(request, inquiry.target.card)
        seconds = self._seconds(inquiry)

        def ask(engine: Engine) -> Awaitable[TextScores]:
            return engine.score(structs.replace(request, timeout=seconds))

        bound = cost_bound(request, inquiry.target.card)
        return await self._take_turn(inquiry, Tokens(()), EngineQuestion(ask, bound, lambda made: made.prompt_tokens))

    async def _ask(
        self,
        inquiry: Inquiry,
        prompt: Prompt,
        needed: frozenset[Capability],
        question: Callable[[Engine], Awaitable[T]],
    ) -> T:
        # No answer is asked for: a model that takes no text or ids as a prompt may still say their tokens, or text.
        require(prompt_needs(prompt) | needed if isinstance(prompt, Chat) else needed, inquiry.target.card)
        cost = reading_cost(prompt)
        return await self._take_turn(inquiry, prompt, EngineQuestion(question, cost, lambda _: cost))

    async def _take_turn(self, inquiry: Inquiry, prompt: Prompt, asked: EngineQuestion[T]) -> T:
        card, caller = inquiry.target.card, inquiry.caller
        deadline = Deadline(self._seconds(inquiry))
        quota = caller.quota_or(self._current.config.limits.default)
        account = account_of(caller, inquiry.standby)
        request = _to_request(inquiry, prompt)

        async def take_turn() -> T:
            async with (
                self._hosting.lease(inquiry.target.hosted, deadline) as engine,
                self._admission.ask(
                    request, card, caller.id, self._wait(deadline, inquiry.standby), asked.bound
                ) as turn,
            ):
                deadline.arm()
                before = allowance.used
                allowance.used = before + asked.bound
                answer = await asked.ask(engine)
                allowance.used = before + asked.cost(answer)
                turn.settle(Started(None))
                return answer

        own = self._limiter.hold(account, quota, asked.bound)
        async with deadline, own if inquiry.allowance is None else nullcontext(inquiry.allowance) as allowance:
            return await deadline.wait(take_turn())

    def _seconds(self, inquiry: Inquiry) -> float:
        """Return how long a question may take."""
        most = self._current.config.server.request_seconds
        return most if inquiry.seconds is None else min(inquiry.seconds, most)

    def _wait(self, deadline: Deadline, standby: Standby | None) -> WaitLimits:
        if standby is not None:
            return WaitLimits(standby=standby)
        place = time.monotonic() + self._current.config.admission.queue_seconds
        return WaitLimits(place=min(place, deadline.ends), first_token=deadline.ends)


def check_needs(request: EmbedRequest | ScoreRequest, card: ModelCard) -> None:
    """Raise `Unsupported` unless a model makes the vectors, scores or classes that are asked for."""
    of_texts = _EMBED if isinstance(request, EmbedRequest) else _SCORE if request.queries else _CLASSIFY
    require(of_texts, card)


def cost_bound(request: EmbedRequest | ScoreRequest, card: ModelCard) -> int:
    """Bound the tokens of texts that are computed."""
    if isinstance(request, EmbedRequest):
        return 1 + sum(map(prompt_bound, request.inputs))
    return pairs_bound(request, card)


def _to_request(inquiry: Inquiry, prompt: Prompt) -> GenerateRequest:
    """Make the request that waits for its turn; it is not generated."""
    return GenerateRequest(id="", model=inquiry.target.card.name, prompt=prompt, priority=inquiry.caller.priority)
