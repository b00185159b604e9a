"""Loads and unloads models as `Residency` decides, side by side, and has requests wait for those that they need."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from loguru import logger
from msgspec import Struct, field

from gateway.engine import EngineError, Health, Unavailable
from gateway.flow.tasks import Tasks
from gateway.hosting.estimates import Estimates
from gateway.hosting.hosted import HostedEngine
from gateway.hosting.residency import Residency
from gateway.hosting.resident import Bounds, Claim, Decision, Resident, Stage, Verdict

_MISFIT_RETRY = 60.0
_BY_ITSELF = {Verdict.EVICT: "it made room for another", Verdict.EXPIRE: "it was idle"}
_REASONS = {Verdict.EVICT: "room", Verdict.EXPIRE: "idle"}


class LoadCounts(Struct):
    """What became of loads by engine and result, the seconds of those that succeeded, and unloads by reason."""

    loads: Counter[tuple[str, ...]] = field(default_factory=Counter)
    seconds: defaultdict[tuple[str, ...], float] = field(default_factory=lambda: defaultdict(float))
    evictions: Counter[tuple[str, ...]] = field(default_factory=Counter)


class LoadWork(NamedTuple):
    """What really loads an engine and unloads it; the outcome of a load is in the `health`."""

    enter: Callable[[HostedEngine], Awaitable[None]]
    leave: Callable[[HostedEngine], Awaitable[None]]


class Loads:
    """The loads of one worker, which is the only one that has engines: what it decides holds for the whole service."""

    def __init__(self, work: LoadWork, bounds: Bounds) -> None:
        self.residency = Residency(bounds)
        self.counts = LoadCounts()
        self._work = work
        self._hosted: dict[Resident, HostedEngine] = {}
        self._told: dict[Claim, asyncio.Future[EngineError | None]] = {}
        self._estimates = Estimates()
        self._tasks = Tasks()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def end(self) -> None:
        """End the loads under way, and begin none any more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.end()

    def add(self, hosted: HostedEngine) -> None:
        """Know of an engine, loaded or not."""
        self._hosted[hosted.resident] = hosted
        self.residency.residents.append(hosted.resident)

    def retire(self, hosted: HostedEngine, why: str) -> None:
        """Let nothing wait for an engine any longer: another takes its place, or none."""
        hosted.is_on_call = False
        self._carry_out(self.residency.refuse(hosted.resident, why))

    def remove(self, hosted: HostedEngine) -> None:
        """Know no more of an engine that has left."""
        self.residency.forget(hosted.resident)
        self._hosted.pop(hosted.resident, None)
        self.step()

    def configure(self, bounds: Bounds) -> None:
        """Go by other bounds; idle models above them leave at once, busy ones when they are idle."""
        self.residency.bounds = bounds
        self.step()

    async def begin(self, hosted: HostedEngine, *, is_there: bool = False) -> bool:
        """Take the room for an engine that `run` loads as the service starts; return whether there is any.

        One whose process `is_there` has it already.
        """
        if hosted.resident.stage is not Stage.UNLOADED:
            return False
        if self._is_bounded and not is_there:
            before = hosted.health
            is_wished = await self._estimates.make(hosted)
            if hosted.resident.stage is not Stage.UNLOADED or hosted.health is not before:
                return False  # it was loaded by hand meanwhile, whatever came of it
            if not self.residency.fits(hosted.resident):
                hosted.set_aside("there was no room for it at the start")
                logger.bind(event="not_loaded", engine=hosted.name).warning("{}: {}", hosted.name, hosted.detail)
                self._wish_estimated(hosted, is_wished=is_wished)
                return False
        self.residency.begin(hosted.resident, time.monotonic())
        return True

    def take(self, hosted: HostedEngine) -> bool:
        """Hold an engine that is loaded for one request; return whether it is held: `give` it back then."""
        if hosted.config.load == "demand" and (why := hosted.given_up):
            hosted.health, hosted.detail = Health.FAILED, why
        return hosted.health is Health.READY and self.residency.take(hosted.resident)

    def give(self, hosted: HostedEngine) -> None:
        """Give an engine back that was held."""
        resident = hosted.resident
        self.residency.give(resident, time.monotonic())
        if not resident.leases and (self._is_bounded or resident.idle_seconds is not None):
            self.step()

    async def hold(self, hosted: HostedEngine, *, by_hand: bool = False) -> None:
        """Wait until an engine is loaded, and hold it; raise `Unavailable` where it cannot be loaded, or not yet."""
        if not by_hand:
            self._check(hosted)
        resident = hosted.resident
        if resident.stage is Stage.LOADED and hosted.health is not Health.READY:  # it broke, and is left first
            self.residency.leave(resident)
            self._tasks.start(self._unload(hosted))
        claim = self.residency.claim(resident)
        self._told[claim] = told = asyncio.get_running_loop().create_future()
        try:
            self._ask(hosted)
            _raise(await told)
        except BaseException:
            self.residency.end(claim, time.monotonic())
            self.step()
            raise
        finally:
            del self._told[claim], told, claim  # its error's traceback holds this frame

    def wish(self, hosted: HostedEngine) -> None:
        """Have an engine loaded in the background, for the requests to come."""
        if hosted.is_asleep and hosted.resident.stage is Stage.UNLOADED:
            self._ask(hosted, is_wish=True)

    def step(self) -> None:
        """Carry out what is to be done now, and look again when time alone may change that."""
        if self._is_over:
            return
        now = time.monotonic()
        for decision in self.residency.step(now):
            if decision.verdict is Verdict.REFUSE:  # its load was not even begun
                self.counts.loads[self._hosted[decision.resident].name, "refused"] += 1
            self._carry_out(decision)
        for resident, hosted in self._hosted.items():
            if not self._estimates.has(resident):
                hosted.waits_for = self.residency.waits_for(resident)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (look := self.residency.next_look(now)) is not None:
            self._timer = asyncio.get_running_loop().call_later(look - now, self.step)

    def resident(self) -> dict[tuple[str, ...], float]:
        """Tell of each engine whether it takes memory."""
        return {(each.name,): float(each.stage is not Stage.UNLOADED) for each in self.residency.residents}

    def sizes(self) -> dict[tuple[str, ...], float]:
        """Tell the bytes that each engine counts for which is there, and whose size is known."""
        there = (each for each in self.residency.residents if each.stage is not Stage.UNLOADED)
        return {(each.name,): float(each.size) for each in there if each.size is not None}

    @property
    def _is_bounded(self) -> bool:
        return self.residency.bounds != Bounds()

    def _check(self, hosted: HostedEngine) -> None:
        if not hosted.is_on_call:
            raise Unavailable(f"the engine {hosted.name!r} is not loaded: {hosted.reason}")
        if hosted.is_paused:
            raise Unavailable(f"the model is not ready: {hosted.reason}", retry_after=hosted.retry_after)

    def _ask(self, hosted: HostedEngine, *, is_wish: bool = False) -> None:
        """Ask for a load, once it is known how much it would take."""
        if hosted.resident.stage is Stage.UNLOADED and self._is_bounded:
            is_under_way = self._estimates.has(hosted.resident)
            self._estimates.note(hosted, is_wish=is_wish)
            if not is_under_way:
                self._tasks.start(self._ask_estimated(hosted))
            return
        self.residency.wish(hosted.resident)
        self.step()

    async def _ask_estimated(self, hosted: HostedEngine) -> None:
        self._wish_estimated(hosted, is_wished=await self._estimates.make(hosted))

    def _wish_estimated(self, hosted: HostedEngine, *, is_wished: bool) -> None:
        """Have an engine loaded whose size was estimated, if a request waits for it still."""
        if is_wished or hosted.resident.claims:
            self.residency.wish(hosted.resident)
        self.step()

    def _carry_out(self, decision: Decision) -> None:
        hosted = self._hosted.get(decision.resident)
        if hosted is None:
            return
        match decision.verdict:
            case Verdict.LOAD:
                self._tasks.start(self.run(hosted))
            case Verdict.EVICT | Verdict.EXPIRE:
                self.counts.evictions[hosted.name, _REASONS[decision.verdict]] += 1
                hosted.set_aside(_BY_ITSELF[decision.verdict])
                self._tasks.start(self._unload(hosted))
            case Verdict.ADMIT:
                self._tell(decision, lambda: None)
            case Verdict.REFUSE:
                retry = hosted.retry_after if hosted.is_paused else _MISFIT_RETRY
                what = f"the model {hosted.label!r} cannot be loaded: {decision.why}"
                self._tell(decision, lambda: Unavailable(what, retry_after=retry))

    def _tell(self, decision: Decision, make: Callable[[], EngineError | None]) -> None:
        """Tell each request that waited, with an error of its own."""
        for claim in decision.claims:
            told = self._told.get(claim)
            if told is not None and not told.done():
                told.set_result(make())

    async def run(self, hosted: HostedEngine) -> None:
        """Load an engine that has room; the outcome is in its health."""
        began = time.monotonic()
        await self._work.enter(hosted)
        now = time.monotonic()
        if hosted.health is Health.READY:
            self.counts.loads[hosted.name, "ok"] += 1
            self.counts.seconds[hosted.name,] += now - began
            self.residency.loaded(hosted.resident, now, hosted.resident_bytes)
        else:
            self.counts.loads[hosted.name, "failed"] += 1
            self._carry_out(self.residency.failed(hosted.resident, now, hosted.reason))
        self.step()

    async def _unload(self, hosted: HostedEngine) -> None:
        await self._work.leave(hosted)


def _raise(error: EngineError | None) -> None:
    if error is not None:
        raise error
