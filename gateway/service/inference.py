"""Every rule of a generation, in order, on one page.

find       which engine serves the model, as far as the caller may know
admit      may the model do what is asked; what would it cost; until when may it take; nothing is held yet
generate   telemetry -> in flight -> deadline -> limits of the caller -> the answer, charged at its end, from one of
               the cache     made before, or being made for another client that asks the same
               the engine    lease (it is not unloaded meanwhile) -> permit (a place in its batch) -> its events
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import cast

from msgspec import structs

from gateway.admission import Admission, QueuePosition, Standby, WaitLimits
from gateway.auth import Caller
from gateway.background import Background
from gateway.cache import CachePolicy, Replay, key_of, to_cache
from gateway.config import Config
from gateway.config.snapshot import CurrentConfig
from gateway.engine import (
    DeadlineExceeded,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Started,
    negotiate,
)
from gateway.flow.deadline import Deadline, Timeouts, least, least_known
from gateway.flow.work import Work
from gateway.hosting.directory import NotLoaded
from gateway.hosting.hosted import HostedEngine, LoadProgress
from gateway.hosting.hosting import Hosting
from gateway.hosting.lease import Lease
from gateway.hosting.route import Load, Target
from gateway.hosting.routing import Router
from gateway.inflight import InFlight, InFlightRequest, Options, account_of, made_by
from gateway.limits import Allowance, Limiter, PromptAllowance
from gateway.service.maker import Maker, ServiceEvent, place_limit
from gateway.service.records import Records
from gateway.store import Files, Store, to_folder
from gateway.telemetry import Telemetry, current_record

# Work that no client waits for comes after every request in an engine, too.
_STANDBY_PRIORITY = -1_000
# Work that an engine puts aside has the longest time that a batch may have: 30 days.
_STANDBY_SECONDS = 2_592_000.0


class Inference:
    """Generation for all dialects: finds the engine, waits for a place in it, keeps time and tells telemetry."""

    def __init__(
        self, hosting: Hosting, admission: Admission, limiter: Limiter, telemetry: Telemetry, current: CurrentConfig
    ) -> None:
        self.cache = to_cache(current.config.cache)
        self.store = Store(current.config.store)
        self.files = Files(
            self.store, to_folder(current.config.files, current.config.store), lambda: current.config.files
        )
        self.in_flight = InFlight()
        self.records = Records(lambda: current.config.replay)
        self.background = Background(
            lambda: current.config.store.background, lambda: current.config.store.background_per_key
        )
        self.router = Router(hosting, current)
        self._hosting = hosting
        self._admission = admission
        self._limiter = limiter
        self._telemetry = telemetry
        self._current = current
        self.maker = Maker(hosting, admission, current, telemetry.metrics)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._current.config

    async def drain(self) -> None:
        """Refuse new requests; return when the last one has ended, or was ended because its time was over."""
        self._hosting.drain()
        await self.maker.shadows.end()
        await self.in_flight.finish(self._hosting.drain_seconds)
        await self.background.wait()

    def find(self, model: str | None, caller: Caller) -> Target:
        """Find the engine for `model`, or for the caller's default.

        Raises `UnknownModel` or `Unavailable`, and `NotLoaded` where a `lease` has to be waited for first.
        """
        record = current_record()
        try:
            target = self.router.find_ready(model, caller)
        except Exception:
            record.model = self.router.name(model)
            raise
        record.model = target.card.name
        return target

    def lease(self, hosted: HostedEngine, timeouts: Timeouts) -> Lease:
        """Make the hold on an engine whose card is known only once it is loaded."""
        deadline, limits = self._limit(timeouts)
        return self._hosting.lease(hosted, deadline, None if timeouts.queue is None else limits.place)

    async def find_loaded(self, model: str | None, caller: Caller, timeouts: Timeouts) -> Target:
        """Find the engine for `model` as `find` does, and wait for its first load where it has to be."""
        try:
            return self.find(model, caller)
        except NotLoaded as missing:
            await self.lease(missing.hosted, timeouts).wait()
            return self.find(model, caller)

    def choose(self, target: Target, requests: Sequence[GenerateRequest]) -> Target:
        """Choose the engine for requests that came by a route, by its strategy; all answers of a body are of one."""
        if target.route is None:
            return target
        find = self._admission.queue
        chosen = target.route.choose(requests[0], lambda c: Load(*find(c).load), lambda c: find(c).breaker.is_free)
        current_record().model = chosen.card.name
        return chosen

    def note_asked(self, model: str, prompts: int, answers: int) -> None:
        """Take note of so many prompts, and of how many answers to each are asked for."""
        for _ in range(prompts):
            self._telemetry.metrics.answers.answers_asked.record(answers, model)

    def hold(
        self,
        caller: Caller,
        target: Target,
        requests: Sequence[GenerateRequest],
        answers: int,
        standby: Standby | None = None,
    ) -> Allowance:
        """Make the allowance of several prompts, with so many answers to each, which for the limits are one request.

        Enter it, and hand a `PromptAllowance` of it to each prompt's answers. Raises `Unsupported`.
        """
        for request in requests:
            negotiate(request, target.card)
        tokens = sum(self._admission.cost(request, target.card, answers) for request in requests)
        return self._allow(caller, tokens, standby)

    def admit(
        self,
        request: GenerateRequest,
        caller: Caller,
        target: Target,
        options: Options,
        allowance: PromptAllowance | None = None,
    ) -> InFlightRequest:
        """Check that the model can do what is asked, and set the clocks; raise `Unsupported`. Nothing is held yet.

        An answer among several comes with its part of the `allowance` of all.
        """
        negotiate(request, target.card)
        highest = caller.priority if options.standby is None else _STANDBY_PRIORITY
        if request.priority > highest:
            request = structs.replace(request, priority=highest)
        deadline, wait_limits = self._limit(options.timeouts)
        if options.standby is not None:
            wait_limits = WaitLimits(standby=options.standby)
            if options.standby.is_put_aside(target.card):
                deadline = Deadline(least(options.timeouts.total, _STANDBY_SECONDS), options.timeouts.first_token)
        cost = self._admission.cost(request, target.card)
        return InFlightRequest(
            request=request,
            caller=caller,
            target=target,
            cost=cost,
            deadline=deadline,
            wait_limits=wait_limits,
            options=options,
            telemetry=self._telemetry.generation(request, target.card, target.hosted.plugin),
            allowance=allowance or self._allow(caller, cost, options.standby),
        )

    async def generate(self, entry: InFlightRequest) -> AsyncGenerator[ServiceEvent, None]:
        """Yield the events of one answer; an `EngineError` before `Started` is an HTTP status.

        Queue positions come first, where the client wants them. A deadline that passes after `Started` is an end like
        any other: the text so far stands, and the reason is `deadline`.
        """
        deadline, watch = entry.deadline, entry.telemetry
        with watch, self.in_flight.enter(entry):
            async with deadline, entry.allowance as allowance:
                entry.headers.update(allowance.headers)
                answer = await deadline.wait(self._answer(entry))
                try:
                    async with aclosing(self.records.follow(entry, answer)) as events:
                        try:
                            while (event := await deadline.wait(anext(events, None))) is not None:
                                if type(event) is not QueuePosition and type(event) is not LoadProgress:
                                    if type(event) is Started:
                                        deadline.relax()
                                    watch.see(event)
                                yield event
                        except DeadlineExceeded:
                            if watch.started is None:
                                raise
                            entry.headers["x-finish-detail"] = FinishReason.DEADLINE
                            last = Finished(FinishReason.DEADLINE, watch.usage)
                            watch.see(last)
                            yield last
                finally:
                    if isinstance(answer, Replay):
                        watch.link(answer.maker)
                    if made := made_by(entry, answer):
                        watch.charge(made, allowance.charge(made))

    def shared_key(self, entry: InFlightRequest) -> bytes | None:
        """Return the key under which the cache has the answer; `None` where it is made for this client alone."""
        options = entry.options
        # The maker of a shared answer waits for all its clients: one that limits its wait, or follows it, goes alone.
        is_alone = options.timeouts.queue is not None or options.wants_queue_updates
        if is_alone or options.cache_policy is CachePolicy.NO_STORE or not self.config.cache.enabled:
            return None
        return key_of(entry.request, entry.target.card, entry.caller.id)

    async def _answer(self, entry: InFlightRequest) -> AsyncGenerator[ServiceEvent, None]:
        """Choose the maker of the answer: the engine for this client alone, or the cache for all that ask the same."""
        options, key = entry.options, self.shared_key(entry)
        if key is None:
            self.cache.counts.bypassed += 1
            return self.maker.begin(entry, entry.deadline, entry.wait_limits, entry.progress.work)
        entry.deadline.arm()
        replay: Replay = await self.cache.stream(key, partial(self._share, entry), options.cache_policy)
        entry.headers["x-cache"] = entry.telemetry.cache = replay.status
        return cast("AsyncGenerator[ServiceEvent, None]", replay)

    async def _share(self, entry: InFlightRequest, work: Work) -> AsyncGenerator[GenerateEvent, None]:
        """Generate once for all waiting clients, with a deadline of its own: the first client may disconnect."""
        deadline, wait_limits = self._limit(Timeouts())
        work.trace = entry.telemetry.traceparent
        async with deadline, aclosing(self.maker.begin(entry, deadline, wait_limits, work)) as events:
            while (event := await deadline.wait(anext(events, None))) is not None:
                made = cast("GenerateEvent", event)
                entry.telemetry.make(made)
                yield made

    def _allow(self, caller: Caller, tokens: int, standby: Standby | None) -> Allowance:
        return self._limiter.hold(account_of(caller, standby), caller.quota_or(self.config.limits.default), tokens)

    def _limit(self, timeouts: Timeouts) -> tuple[Deadline, WaitLimits]:
        """Set the clocks of a request: as it asks, but within what the configuration allows."""
        config = self.config
        first_token = least_known(timeouts.first_token, config.admission.first_token_seconds)
        deadline = Deadline(least(timeouts.total, config.server.request_seconds), first_token)
        return deadline, WaitLimits(place=place_limit(config, timeouts, deadline), first_token=deadline.first)
