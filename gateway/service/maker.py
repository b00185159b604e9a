"""Makes answers: waits for a place in an engine's batch, and where an engine fails, asks the next of the route."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from itertools import zip_longest

from msgspec import Struct, structs

from gateway.admission import Admission, Permit, QueuePosition, WaitLimits
from gateway.auth.salt import Salt
from gateway.config import Config
from gateway.config.snapshot import CurrentConfig
from gateway.engine import EngineError, GenerateEvent, GenerateRequest, Started, Unavailable, negotiate
from gateway.flow.deadline import Deadline, Timeouts, least
from gateway.flow.fitting import fitted
from gateway.flow.work import Work
from gateway.hosting.hosted import LoadProgress, begin
from gateway.hosting.hosting import Hosting
from gateway.hosting.route import RetryBudget, Route, Target, TooSlow, falls_back, may_have_worked
from gateway.inflight import InFlightRequest
from gateway.service.shadow import Shadows
from gateway.telemetry import Metrics

ServiceEvent = QueuePosition | LoadProgress | GenerateEvent

# What comes before an answer begins.
_WAITING = (QueuePosition, LoadProgress)
# Seconds at most between what failed inside an engine and its retry, at random, so that many do not come at once.
_JITTER = 0.05


class TryTerms(Struct, frozen=True):
    """The clocks of one try, and what it makes an engine do; `seconds` are those that it may take to begin."""

    deadline: Deadline
    limits: WaitLimits
    work: Work
    seconds: float | None = None


class Maker:
    """Makes each answer at the engine that was chosen for it, or where that fails before it begins, at the next."""

    def __init__(self, hosting: Hosting, admission: Admission, current: CurrentConfig, metrics: Metrics) -> None:
        self.shadows = Shadows(hosting, admission, metrics)
        self._hosting = hosting
        self._admission = admission
        self._current = current
        self._retries = RetryBudget()
        self._salt = Salt()

    def begin(
        self, entry: InFlightRequest, deadline: Deadline, wait_limits: WaitLimits, work: Work
    ) -> AsyncGenerator[ServiceEvent, None]:
        """Make an answer at the one engine that it may come from, or at the first of a route that begins it."""
        terms = TryTerms(deadline, wait_limits, work)
        route = entry.target.route
        if route is None:
            return self._make(entry, entry.target, terms)
        answer, shadow = self._try_each(entry, route, terms), route.settings.shadow
        if shadow is None or not self.shadows.draw(shadow):
            return answer
        copied = structs.replace(entry.request, salt=self.salt_of(entry), trace=None)
        return self.shadows.follow(answer, copied, shadow, self._current.config.server.request_seconds)

    def salt_of(self, entry: InFlightRequest) -> str:
        """Return the salt that keeps the prefixes of a caller from others."""
        return self._salt.of(entry.caller.id, entry.request.salt)

    async def _try_each(
        self, entry: InFlightRequest, route: Route, terms: TryTerms
    ) -> AsyncGenerator[ServiceEvent, None]:
        """Make an answer at one engine after the other until one begins it: then there is no way back."""
        self._retries.earn()
        if route.wished is not None:
            self._hosting.loads.wish(route.wished)
        if route.skipped:
            entry.headers["x-fallback"] = route.skipped
        for target, other in zip_longest(route.targets, route.targets[1:]):
            entry.headers["x-engine"] = target.hosted.name
            began, is_begun = time.monotonic(), False
            try:
                own = self._terms(entry, route, terms, has_other=other is not None)
                async with aclosing(self._make(entry, target, own)) as events:
                    async for event in events:
                        if not is_begun and type(event) not in _WAITING:
                            is_begun = True
                            entry.telemetry.note_try(target.hosted.name, "", time.monotonic() - began)
                        yield event
            except EngineError as error:
                if not is_begun:
                    entry.telemetry.note_try(target.hosted.name, error.code, time.monotonic() - began)
                if is_begun or other is None or not await self._may_go_on(error, target, other, terms.deadline):
                    raise
                entry.headers.setdefault("x-fallback", error.code)
                entry.telemetry.move(other.card, other.hosted.plugin, error.code)
                terms.work.is_another = True
            else:
                return

    def _terms(self, entry: InFlightRequest, route: Route, terms: TryTerms, *, has_other: bool) -> TryTerms:
        """Set the clocks of one try: each may wait anew for a place, and only the last one waits for its engine."""
        place = terms.limits.place
        if terms.work.is_another:
            place = place_limit(self._current.config, entry.options.timeouts, terms.deadline)
        limits = structs.replace(terms.limits, place=place, is_patient=not has_other)
        return structs.replace(terms, limits=limits, seconds=route.settings.try_seconds if has_other else None)

    async def _may_go_on(self, error: EngineError, target: Target, other: Target, deadline: Deadline) -> bool:
        """Tell whether to ask the next engine; what may have cost an engine work is retried a moment later."""
        if not falls_back(error, target.card, other.card, self._retries):
            return False
        if may_have_worked(error):
            await asyncio.sleep(min(random.uniform(0, _JITTER), deadline.left))  # noqa: S311 - no secret
        return True

    async def _make(
        self, entry: InFlightRequest, target: Target, terms: TryTerms
    ) -> AsyncGenerator[ServiceEvent, None]:
        """Wait for a place in the engine's batch, and generate there."""
        deadline, work = terms.deadline, terms.work
        shorten, limits = entry.shorten_at(target), terms.limits
        until = None if entry.options.timeouts.queue is None else limits.place
        lease = self._hosting.lease(target.hosted, deadline, until, is_patient=limits.is_patient)
        if entry.options.wants_queue_updates:
            async with aclosing(lease.updates()) as updates:
                async for update in updates:
                    yield update
        async with lease as engine:
            if lease.has_waited:
                terms, target = self._after_load(entry, terms, target)
            permit = self._permit(entry, target, terms.limits)
            if entry.options.wants_queue_updates:
                async with aclosing(permit.positions()) as positions:
                    async for position in positions:
                        yield position
            async with permit:
                entry.telemetry.place(permit.waited)
                deadline.arm()
                work.is_begun = True
                asked = self._to_engine(entry, target, deadline)
                try:
                    ask = partial(begin, engine, is_patient=terms.limits.is_patient)
                    async with aclosing(fitted(ask, asked, shorten)) as events:
                        if terms.seconds is not None:
                            first = await self._first(events, terms.seconds)
                            yield self._started(first, permit, entry, target)
                        async for event in events:
                            yield self._started(event, permit, entry, target) if type(event) is Started else event
                except Exception:
                    work.is_begun = permit.is_settled  # what an engine refuses or loses unread is not charged
                    raise
                else:
                    work.is_begun = permit.is_settled

    def _after_load(self, entry: InFlightRequest, terms: TryTerms, target: Target) -> tuple[TryTerms, Target]:
        """Let the wait for a place begin now, unless the client has bounded it, and see what the model is now."""
        if entry.options.timeouts.queue is None:
            place = place_limit(self._current.config, entry.options.timeouts, terms.deadline)
            terms = structs.replace(terms, limits=structs.replace(terms.limits, place=place))
        card = target.hosted.answers_to(target.card.name)
        if card is None:
            raise Unavailable(f"the engine {target.hosted.name!r} does not serve {target.card.name!r} any more")
        if card is not target.card:
            negotiate(entry.request, card)
        return terms, target._replace(card=card)

    async def _first(self, events: AsyncGenerator[GenerateEvent, None], seconds: float) -> GenerateEvent:
        """Wait for the first event; raise `TooSlow` once it takes too long, if a retry is left for it."""

        def give_up() -> None:
            if self._retries.spend():
                limit.reschedule(loop.time())

        loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)
        timer = loop.call_later(seconds, give_up)
        try:
            async with limit:
                return await anext(events)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TooSlow(f"the engine did not begin its answer within {seconds:g} s") from error
        finally:
            timer.cancel()

    def _started(self, event: GenerateEvent, permit: Permit, entry: InFlightRequest, target: Target) -> GenerateEvent:
        """Settle what the request holds, and tell how long it waited, and which model answers if not the chosen one."""
        if not isinstance(event, Started):
            return event
        permit.settle(event)
        model = None if target.card is entry.target.card else target.card.name
        return structs.replace(event, queue_seconds=event.queue_seconds + permit.waited, model=model)

    def _permit(self, entry: InFlightRequest, target: Target, limits: WaitLimits) -> Permit:
        """Make the permit under which an answer is made; its request waits from now on."""
        cost = entry.cost if target.card is entry.target.card else None
        entry.progress.permit = permit = self._admission.permit(
            entry.request, target.card, entry.caller.id, limits, cost
        )
        entry.telemetry.wait()
        return permit

    def _to_engine(self, entry: InFlightRequest, target: Target, deadline: Deadline) -> GenerateRequest:
        """Write the request as the engine gets it."""
        work = entry.wait_limits.standby
        return structs.replace(
            entry.request,
            model=target.card.name,
            timeout=deadline.left,
            trace=entry.telemetry.traceparent,
            salt=self.salt_of(entry),
            standby=work.quiet_seconds if work is not None and work.is_put_aside(target.card) else None,
        )


def place_limit(config: Config, timeouts: Timeouts, deadline: Deadline) -> float:
    """Return the moment until which a request may wait for a place, if it begins to now."""
    queue = time.monotonic() + least(timeouts.queue, config.admission.queue_seconds)
    return min(queue, deadline.first)
