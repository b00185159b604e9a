"""Shadows: a share of a route's requests is asked of a further engine too, whose answers are only compared.

A copy begins when the answer that the client got has ended, and only where its engine has a place free. It is charged
to no caller, kept nowhere, and the first to go: when a request waits for its place, and when the service drains.
"""

import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from msgspec import Struct, structs

from gateway.admission import Admission, Permit, QueuePosition, WaitLimits
from gateway.config import ShadowSettings
from gateway.engine import (
    Delta,
    EngineError,
    Finished,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    Overloaded,
    Started,
    ToolDelta,
    UnknownModel,
    negotiate,
)
from gateway.flow.deadline import Deadline
from gateway.flow.tasks import Tasks
from gateway.hosting.hosted import HostedEngine, LoadProgress, begin
from gateway.hosting.hosting import Hosting
from gateway.telemetry import Metrics

# Copies are of no caller, and come after every request.
_CALLER = "(shadow)"
_PRIORITY = -1_000
# Seconds that a copy may wait for the place that was free just now.
_WAIT = 1.0
_DROPPED = "dropped"


class Recording:
    """The part of one answer that is compared: the texts of its tokens in order, its end, and its seconds at work."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, int]] = []
        self.finished: Finished | None = None
        self.seconds = 0.0
        self._prefill = 0.0
        self._begun = time.monotonic()

    @property
    def text(self) -> str:
        """All that was written: thoughts, text and calls."""
        return "".join(text for text, _ in self.pieces)

    def add(self, event: GenerateEvent) -> None:
        """Take the next event."""
        if isinstance(event, Delta):
            self.pieces.append((event.reasoning + event.text, event.tokens))
        elif isinstance(event, ToolDelta):
            self.pieces.append((event.name + event.arguments, event.tokens))
        elif isinstance(event, Started):
            self._prefill, self._begun = event.prefill_seconds, time.monotonic()
        else:
            self.finished = event
            self.seconds = self._prefill + time.monotonic() - self._begun


def diverges_at(first: Recording, second: Recording) -> int | None:
    """Count the tokens of the first answer before the one in which the texts part; `None` where they are the same."""
    text, other = first.text, second.text
    if text == other:
        return None
    differing = (at for at, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1])
    common, end, tokens = next(differing, min(len(text), len(other))), 0, 0
    for piece, number in first.pieces:
        end += len(piece)
        if end > common:
            break
        tokens += number
    return tokens


class Shadow(Struct, frozen=True):
    """One copy: the request as its engine gets it, the engine with the model's card, and the answer to compare."""

    request: GenerateRequest
    hosted: HostedEngine
    card: ModelCard
    answered: Recording


class Shadows:
    """Copies requests, bounded in number, and counts what became of the copies."""

    def __init__(self, hosting: Hosting, admission: Admission, metrics: Metrics) -> None:
        self._hosting = hosting
        self._admission = admission
        self._metrics = metrics
        self._running: Counter[str] = Counter()
        self._tasks = Tasks()

    def draw(self, settings: ShadowSettings | None) -> bool:
        """Draw whether a request is copied."""
        return settings is not None and random.random() < settings.share  # noqa: S311 - no secret

    async def follow(
        self,
        events: AsyncGenerator[QueuePosition | LoadProgress | GenerateEvent, None],
        request: GenerateRequest,
        settings: ShadowSettings,
        seconds: float,
    ) -> AsyncGenerator[QueuePosition | LoadProgress | GenerateEvent, None]:
        """Pass an answer on, and ask the same of the shadow once it is whole; that may take so many seconds."""
        answered = Recording()
        async with aclosing(events) as own:
            async for event in own:
                if type(event) is not QueuePosition and type(event) is not LoadProgress:
                    answered.add(event)
                yield event
        if answered.finished is not None:
            self._start(answered, request, settings, seconds)

    async def end(self) -> None:
        """Give all copies up."""
        await self._tasks.end()

    async def wait(self) -> None:
        """Wait until the copies that run have ended."""
        await self._tasks.wait()

    def _start(self, answered: Recording, request: GenerateRequest, settings: ShadowSettings, seconds: float) -> None:
        name = settings.engine
        if self._hosting.is_draining or self._running[name] >= settings.at_once:
            self._count(name, _DROPPED)
            return
        try:
            hosted = self._hosting.directory.named(name)
            card = self._card(hosted)
            shadow = Shadow(structs.replace(request, model=card.name, priority=_PRIORITY), hosted, card, answered)
            negotiate(shadow.request, card)
        except EngineError as error:
            self._count(name, _result(error))
            return
        self._running[name] += 1
        self._tasks.start(self._run(shadow, seconds)).add_done_callback(lambda _: self._running.subtract((name,)))

    def _card(self, hosted: HostedEngine) -> ModelCard:
        """Find the model of an engine that has a place free; raise `Overloaded` where it has none."""
        if not hosted.is_up or not hosted.cards:
            raise Overloaded("the engine is not up")
        queue = self._admission.queue(hosted.cards[0])
        if queue.waiting or queue.places.running >= queue.places.total or not queue.breaker.is_free:
            raise Overloaded("the engine has no place free")
        return hosted.cards[0]

    async def _run(self, shadow: Shadow, seconds: float) -> None:
        """Make one copy, and compare it."""
        name, made = shadow.hosted.name, Recording()
        result = _DROPPED  # where it is cancelled
        try:
            await self._make(shadow, made, seconds)
            result = self._compare(shadow, made)
        except EngineError as error:
            result = _result(error)
        except Exception:  # noqa: BLE001 - a bug of an engine; its requests log it
            result = EngineError.code
        finally:
            self._count(name, result)

    async def _make(self, shadow: Shadow, made: Recording, seconds: float) -> None:
        limits = WaitLimits(place=self._admission.clock() + _WAIT, is_patient=False)
        permit = self._admission.permit(shadow.request, shadow.card, _CALLER, limits)
        async with Deadline(seconds) as deadline, self._hosting.lease(shadow.hosted, deadline) as engine, permit:
            deadline.arm()
            asked = structs.replace(shadow.request, timeout=deadline.left)
            async with aclosing(begin(engine, asked, is_patient=False)) as events:
                while (event := await deadline.wait(anext(events, None))) is not None:
                    self._see(event, made, permit, shadow.card)

    def _see(self, event: GenerateEvent, made: Recording, permit: Permit, card: ModelCard) -> None:
        """Take the next event; raise `Overloaded` once a request waits for the copy's place."""
        if isinstance(event, Started):
            permit.settle(event)
        made.add(event)
        if self._admission.queue(card).waiting:
            raise Overloaded("a request waits for the place of this copy")

    def _compare(self, shadow: Shadow, made: Recording) -> str:
        """Measure how an answer and its copy differ; return the result in a word."""
        answered, name = shadow.answered, shadow.hosted.name
        self._metrics.shadow_duration.record(answered.seconds, name, "answer")
        self._metrics.shadow_duration.record(made.seconds, name, "copy")
        tokens = diverges_at(answered, made)
        if tokens is not None:
            self._metrics.shadow_divergence.record(tokens, name)
            return "text"
        ends = cast("Finished", answered.finished), made.finished
        return "same" if ends[1] is not None and ends[0].reason is ends[1].reason else "reason"

    def _count(self, engine: str, result: str) -> None:
        self._metrics.shadows.add(1, engine, result)


def _result(error: EngineError) -> str:
    return _DROPPED if isinstance(error, Overloaded | UnknownModel) else error.code
