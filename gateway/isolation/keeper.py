"""Keeps an engine's process: starts it, watches it, replaces it, and gives it up when it dies over and over."""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from loguru import logger

from gateway.engine import EngineError, Health, LoadFailed, ModelCard, Unavailable
from gateway.flow.tasks import end_all
from gateway.isolation.client import ConnectionLost, RemoteEngine
from gateway.isolation.process import ProcessSpec, RunningProcess, Starter
from gateway.isolation.quarantine import Death
from gateway.linux import oom_kills

T = TypeVar("T")

_TICKS = 20
_DOUBLINGS = 32
# A start takes a moment; without a supervisor to answer it would never end.
_CALLED_OFF_SECONDS = 5.0
_LOADING = "the model is loading"


class Keeper:
    """One process after another; `restarts` counts by reason: exit, oom, hang, failed, load.

    `on_death` is called when a process that served is gone, before any of its calls hears of it.
    """

    def __init__(self, spec: ProcessSpec, start: Starter, on_death: Callable[[Death], None]) -> None:
        self.restarts: Counter[str] = Counter()
        self.pid: int | None = None
        self.cards: Sequence[ModelCard] = ()
        self.health, self.detail = Health.STARTING, _LOADING
        self.settled = asyncio.Event()
        self._spec = spec
        self._start = start
        self._on_death = on_death
        self._log = logger.bind(engine=spec.name)
        self._remote: RemoteEngine | None = None
        self._loading: RemoteEngine | None = None
        self._deaths: deque[float] = deque(maxlen=spec.policy.deaths)
        self._keeping: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the first process; `settled` tells when it serves, or never will."""
        self._keeping = asyncio.create_task(self._keep())

    async def end(self) -> None:
        """End the process within its time."""
        self._set_health(Health.UNLOADED, "the engine was left")
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await end_all([keeping])

    @property
    def step(self) -> tuple[str, float] | None:
        """What the load of its process is at, and the share of that which is done; `None` where that is not known."""
        loading = self._loading if self.health is Health.STARTING else None
        return None if loading is None else loading.pulse.step

    @property
    def remote(self) -> RemoteEngine:
        """The engine in the process that serves now; raise `Unavailable` where there is none."""
        if self.health is not Health.READY or self._remote is None:
            raise Unavailable(self.detail, retry_after=self._spec.policy.longest_delay)
        return self._remote

    def _set_health(self, health: Health, detail: str) -> None:
        self.health, self.detail = health, detail
        if health is Health.STARTING:
            self.settled.clear()
        else:
            self.settled.set()

    def _on_lost(self, death: Death = Death()) -> None:  # noqa: B008 - it never changes
        if self.health is Health.READY:
            self._set_health(Health.STARTING, "the engine's process has ended; it is being replaced")
            self._on_death(death)

    async def _keep(self) -> None:
        """Run one process after another, until one cannot load, they die too fast, or the engine is left."""
        try:
            while True:
                reason, how, served = await self._run_once()
                if served:
                    self._deaths.clear()
                self._deaths.append(_now())
                self._check_loop(how)
                self.restarts[reason] += 1
                delay = self._delay()
                self._log.bind(event="engine_restart", reason=reason).error(
                    "the engine's process {}; the next one starts in {:.1f} s", how, delay
                )
                await asyncio.sleep(delay)
        except EngineError as error:
            self._set_health(Health.FAILED, error.message)
            if self.cards:  # else the engine was never entered, and that fails with this message
                self._log.bind(event="engine_failed").error("{}", error.message)
        except Exception as error:  # noqa: BLE001 - whatever it is: say so, and serve no one
            self._set_health(Health.FAILED, "the engine's process could not be started; the log says why")
            self._log.opt(exception=error).bind(event="engine_failed").error("the engine's process did not start")

    async def _run_once(self) -> tuple[str, str, int]:
        """Run one process from start to death; return the reason, how it ended, and how many answers it finished."""
        kills = oom_kills()
        process = await self._outlast(self._spawn)
        remote = self._loading = RemoteEngine(process.path, self._on_lost)
        reason = "load"
        try:
            try:
                with contextlib.suppress(ConnectionLost):
                    await self._enter(process, remote)
                    reason = await self._watch(remote)
                if reason in ("hang", "failed"):
                    await process.dump()
            except asyncio.CancelledError:
                await process.leave()
                raise
        finally:
            self.pid = None
            try:
                how = await process.kill()
            finally:
                await remote.__aexit__()
        if reason == "exit" and oom_kills() > kills:
            reason = "oom"
        return reason, f"was replaced ({reason}) and {how}" if reason in ("hang", "failed") else how, remote.served

    async def _spawn(self) -> RunningProcess:
        """Start a process. One whose start is called off is ended once it is there: nothing else knows of it."""
        starting = asyncio.ensure_future(self._start(self._spec))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting}, timeout=_CALLED_OFF_SECONDS)
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await starting.result().kill()
            starting.cancel()
            raise

    async def _outlast(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Attempt it until there are descriptors, processes, memory and space for it: to lack them is no death."""
        times = 0
        while True:
            try:
                result = await attempt()
            except OSError as error:
                delay = self._back_off(times)
                self._set_health(Health.STARTING, f"the engine's process cannot be started for now: {error}")
                self._log.bind(event="engine_shortage").warning("{}; tried again in {:.1f} s", self.detail, delay)
                await asyncio.sleep(delay)
                times += 1
            else:
                if times:
                    self._set_health(Health.STARTING, _LOADING)
                return result

    async def _enter(self, process: RunningProcess, remote: RemoteEngine) -> None:
        self.pid = process.pid
        await self._outlast(remote.connect)
        process.hide()
        seconds = self._spec.policy.load
        try:
            async with asyncio.timeout(seconds):
                await remote.__aenter__()
        except TimeoutError as error:
            raise LoadFailed(f"the engine did not load within {seconds:g} s") from error
        self._remote, self.cards = remote, remote.models()
        self._set_health(Health.READY, "")

    async def _watch(self, remote: RemoteEngine) -> str:
        """Wait for the end of the process, or of its progress."""
        # Ticks are counted, not seconds: a stall of this event loop says nothing of the other process.
        tick = self._spec.policy.hang / _TICKS
        seen, still = -1, 0
        while still < _TICKS:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick):
                    await remote.lost()
                    return "exit"
            if remote.health is Health.FAILED:
                self._on_lost()
                return "failed"
            seen, still = (seen, still + 1) if remote.progress == seen else (remote.progress, 0)
        self._on_lost(Death(is_hang=True, stuck=remote.pulse.stuck, arrived=remote.arrived))
        return "hang"

    def _check_loop(self, how: str) -> None:
        """Raise `LoadFailed` in a crash loop: that many deaths within the window, and no answer in between."""
        policy = self._spec.policy
        if len(self._deaths) == policy.deaths and _now() - self._deaths[0] < policy.window:
            raise LoadFailed(f"the engine's process died {policy.deaths} times in a row; the last {how}")

    def _delay(self) -> float:
        """Return 0 after a first death, then longer and longer."""
        recent = sum(_now() - death < self._spec.policy.window for death in self._deaths)
        return self._back_off(recent - 2) if recent > 1 else 0.0

    def _back_off(self, times: int) -> float:
        """Double the delay so many times, up to the longest; at random, so that replicas do not step alike."""
        policy = self._spec.policy
        return min(policy.delay * 2.0 ** min(times, _DOUBLINGS), policy.longest_delay) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _now() -> float:
    return asyncio.get_running_loop().time()
