"""Every rule of a generation, in order, on one page."""

import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from hashlib import blake2b
from typing import TypeVar, cast

from msgspec import structs

from gateway.admission import Admission, QueuePosition, WaitLimits
from gateway.auth import Caller
from gateway.cache import CachePolicy, key_of, to_cache
from gateway.config import Config
from gateway.config.snapshot import CurrentConfig
from gateway.engine import (
    Capability,
    Chat,
    DeadlineExceeded,
    Engine,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    Prompt,
    Started,
    negotiate,
    prompt_needs,
    require,
)
from gateway.flow.deadline import Deadline, Timeouts
from gateway.hosting.hosting import HostedEngine, Hosting
from gateway.hosting.routing import Router
from gateway.inflight import InFlight, InFlightRequest
from gateway.limits import Limiter, Quota
from gateway.telemetry import Telemetry, current_record

T = TypeVar("T")


class Inference:
    """What the dialects call: finds the engine, waits for a place in it, watches the clock and tells telemetry."""

    def __init__(
        self, hosting: Hosting, admission: Admission, limiter: Limiter, telemetry: Telemetry, live: CurrentConfig
    ) -> None:
        self.cache = to_cache(live.config.cache)
        self.in_flight = InFlight()
        self.routing = Router(hosting, live)
        self._hosting = hosting
        self._admission = admission
        self._limiter = limiter
        self._telemetry = telemetry
        self._live = live
        self._secret = secrets.token_bytes(32)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._live.config

    def card(self, model: str | None, caller: Caller) -> ModelCard:
        """Find the card of `model`, or of the default one; raise `UnknownModel` or `Unavailable`."""
        current_record().model = self.routing.name(model)
        return self.routing.find_ready(model, caller)[1]

    def waiting(self, seat: HostedEngine) -> int:
        """Count who waits for a place in the engine's models."""
        queues = (self._admission.queues.get(card.name) for card in seat.cards)
        return sum(queue.waiting for queue in queues if queue is not None)

    def admit(
        self,
        request: GenerateRequest,
        caller: Caller,
        times: Timeouts | None = None,
        wish: CachePolicy = CachePolicy.ANY,
    ) -> InFlightRequest:
        """Make the visit of a request; raise where nobody could serve it. It holds nothing until it is generated."""
        seat, card = self.routing.find_ready(request.model, caller)
        negotiate(request, card)
        times = times or Timeouts(total=request.timeout)
        deadline, patience = self._limit(times)
        if times.queue is not None:
            # Whoever makes an answer waits for all who want it: that cannot end when one has waited enough.
            wish = CachePolicy.NO_STORE
        if request.priority > caller.priority:
            request = structs.replace(request, priority=caller.priority)
        permit = self._admission.permit(request, card, caller.id, patience)
        return InFlightRequest(
            request=request, caller=caller, hosted=seat, card=card, permit=permit, deadline=deadline, cache_policy=wish
        )

    async def count_tokens(self, model: str | None, prompt: Prompt, caller: Caller) -> int:
        """Count the tokens of a prompt."""
        needed = prompt_needs(prompt) | {Capability.TOKEN_COUNT}
        return await self._ask(model, needed, caller, lambda engine, name: engine.count_tokens(name, prompt))

    async def tokenize(self, model: str | None, prompt: Prompt, caller: Caller) -> tuple[int, ...]:
        """Return the ids of a prompt's tokens."""
        needed = prompt_needs(prompt) | {Capability.TOKENIZE}
        return await self._ask(model, needed, caller, lambda engine, name: engine.tokenize(name, prompt))

    async def detokenize(self, model: str | None, ids: tuple[int, ...], caller: Caller) -> tuple[str, ...]:
        """Return the pieces of text that the tokens are."""
        needed = frozenset({Capability.TOKENIZE})
        return await self._ask(model, needed, caller, lambda engine, name: engine.detokenize(name, ids))

    async def render(self, model: str | None, chat: Chat, caller: Caller) -> str:
        """Return a conversation as the model's template writes it."""
        needed = prompt_needs(chat) | {Capability.TOKENIZE}
        return await self._ask(model, needed, caller, lambda engine, name: engine.render(name, chat))

    def generate(self, visit: InFlightRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Yield the events of one generation; an `EngineError` before `Started` is an HTTP status.

        Time that runs out after `Started` is an end like any other: what was said stands, the reason is `deadline`.
        """
        return cast("AsyncGenerator[GenerateEvent, None]", self._run(visit))

    def generate_told(self, visit: InFlightRequest) -> AsyncGenerator[QueuePosition | GenerateEvent, None]:
        """Yield where the request stands in the line, as long as it waits there, and then its events."""
        visit.wants_queue_updates = True
        return self._run(visit)

    async def _run(self, visit: InFlightRequest) -> AsyncGenerator[QueuePosition | GenerateEvent, None]:
        """Give one client its answer, whoever makes it."""
        deadline = visit.deadline
        with (
            self._telemetry.generation(visit.request, visit.card, visit.hosted.plugin) as watch,
            self.in_flight.enter(visit),
        ):
            visit.telemetry = watch
            async with (
                deadline,
                self._limiter.hold(visit.caller.id, self._quota(visit.caller), visit.permit.cost) as allowance,
                aclosing(await deadline.wait(self._source(visit))) as events,
            ):
                visit.headers |= allowance.headers
                try:
                    while (event := await deadline.wait(anext(events, None))) is not None:
                        if not isinstance(event, QueuePosition):
                            if type(event) is Started:
                                deadline.relax()
                            watch.see(event)
                        yield event
                except DeadlineExceeded:
                    if watch.started is None:
                        raise
                    visit.headers["x-finish-detail"] = FinishReason.DEADLINE
                    last = Finished(FinishReason.DEADLINE, watch.usage)
                    watch.see(last)
                    yield last
                finally:
                    allowance.used = watch.usage.prompt_tokens + watch.usage.completion_tokens if watch.is_made else 0

    async def _source(self, visit: InFlightRequest) -> AsyncGenerator[QueuePosition | GenerateEvent, None]:
        """Find who makes the answer: the engine for this client alone, or the cache for all who ask the same."""
        key = key_of(visit.request, visit.card, visit.caller.id) if self.config.cache.enabled else None
        if key is None or visit.cache_policy is CachePolicy.NO_STORE or visit.wants_queue_updates:
            self.cache.counts.bypassed += 1
            return self._make(visit, visit.deadline)
        visit.deadline.arm()
        replay = await self.cache.stream(key, lambda: self._fly(visit), visit.cache_policy)
        visit.headers["x-cache"] = replay.status
        if visit.telemetry is not None:
            visit.telemetry.cache = replay.status
        return cast("AsyncGenerator[QueuePosition | GenerateEvent, None]", replay)

    async def _fly(self, visit: InFlightRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Make an answer for all who ask for it, by a clock of its own: who asked first may leave."""
        deadline, patience = self._limit(Timeouts())
        visit.permit = self._admission.permit(visit.request, visit.card, visit.caller.id, patience)
        async with deadline, aclosing(self._make(visit, deadline)) as events:
            while (event := await deadline.wait(anext(events, None))) is not None:
                yield cast("GenerateEvent", event)

    async def _make(
        self, visit: InFlightRequest, deadline: Deadline
    ) -> AsyncGenerator[QueuePosition | GenerateEvent, None]:
        """Wait for a place in the engine, and have it generate."""
        permit = visit.permit
        async with self._hosting.lease(visit.hosted, deadline) as engine:
            if visit.telemetry is not None:
                visit.telemetry.wait()
            if visit.wants_queue_updates:
                async with aclosing(permit.positions()) as positions:
                    async for position in positions:
                        yield position
            async with permit:
                if visit.telemetry is not None:
                    visit.telemetry.place(permit.waited)
                deadline.arm()
                async with aclosing(engine.generate(self._asked(visit, deadline))) as events:
                    async for event in events:
                        if type(event) is Started:
                            permit.settle(event)
                            yield structs.replace(event, queue_seconds=event.queue_seconds + permit.waited)
                        else:
                            yield event

    def _asked(self, visit: InFlightRequest, deadline: Deadline) -> GenerateRequest:
        """Write the request as the engine gets it."""
        return structs.replace(
            visit.request,
            model=visit.card.name,
            timeout=deadline.left,
            trace=visit.telemetry.traceparent if visit.telemetry is not None else None,
            salt=self._salt(visit),
        )

    async def _ask(
        self,
        model: str | None,
        needed: frozenset[Capability],
        caller: Caller,
        question: Callable[[Engine, str], Awaitable[T]],
    ) -> T:
        """Ask the engine of a model what takes no place in it; to the caller's limits it is a request all the same."""
        seat, card = self.routing.find_ready(model, caller)
        require(needed, card)
        deadline = Deadline(self.config.server.request_seconds)
        async with (
            deadline,
            self._hosting.lease(seat, deadline) as engine,
            self._limiter.hold(caller.id, self._quota(caller), 0),
        ):
            deadline.arm()
            return await deadline.wait(question(engine, card.name))

    def _limit(self, times: Timeouts) -> tuple[Deadline, WaitLimits]:
        """Set the clocks of a request: what it asks for, and no more than the configuration allows."""
        config = self.config
        deadline = Deadline(
            _least(times.total, config.server.request_seconds),
            _least_known(times.first_token, config.admission.first_token_seconds),
        )
        line = time.monotonic() + _least(times.queue, config.admission.queue_seconds)
        return deadline, WaitLimits(place=min(line, deadline.first), first_token=deadline.first)

    def _salt(self, visit: InFlightRequest) -> str:
        """Keep one caller's prefixes from another's: who shares a cache can find out by the clock what is in it.

        A salt that came with the request is mixed in, and never used alone; without keys all share.
        """
        if not visit.caller.id:
            return visit.request.salt
        text = f"{len(visit.caller.id)}:{visit.caller.id}{visit.request.salt}"
        return blake2b(text.encode(errors="surrogatepass"), key=self._secret, digest_size=16).hexdigest()

    def _quota(self, caller: Caller) -> Quota:
        return self.config.limits.default if caller.quota.is_open else caller.quota


def _least(asked: float | None, most: float) -> float:
    return most if asked is None else min(asked, most)


def _least_known(asked: float | None, most: float | None) -> float | None:
    return asked if most is None else _least(asked, most)
