"""An engine whose process may die: it is watched, replaced, and given up only when it dies over and over."""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Self, TypeVar

from loguru import logger
from msgspec import structs

from gateway.engine import (
    Chat,
    DeadlineExceeded,
    Embeddings,
    EmbedRequest,
    Engine,
    EngineError,
    GenerateEvent,
    GenerateRequest,
    Health,
    LoadFailed,
    ModelCard,
    Prompt,
    Started,
    Status,
    Unavailable,
)
from gateway.isolation.client import ConnectionLost, RemoteEngine
from gateway.isolation.process import EngineProcess, ProcessSpec, RunningProcess, Starter
from gateway.isolation.quarantine import Quarantine, RunningRequest
from gateway.linux import oom_kills

T = TypeVar("T")
_TICKS = 20


class IsolatedEngine(Engine):
    """Any plugin's engine in a process of its own; `restarts` counts by reason: exit, oom, hang, failed, load."""

    def __init__(self, recipe: ProcessSpec, start: Starter = EngineProcess.start) -> None:
        self.restarts: Counter[str] = Counter()
        self._recipe = recipe
        self._start = start
        self._log = logger.bind(engine=self._recipe.name)
        self._remote: RemoteEngine | None = None
        self._cards: Sequence[ModelCard] = ()
        self._health, self._detail = Health.STARTING, "the model is loading"
        self._settled = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._deaths: deque[float] = deque(maxlen=self._recipe.care.deaths)
        self._suspects = Quarantine()
        self._trial = asyncio.Lock()
        self.pid: int | None = None

    async def __aenter__(self) -> Self:
        """Start the process and wait until its engine is entered; raise `LoadFailed` when it never will be."""
        self._keeper = asyncio.create_task(self._keep())
        try:
            await self._settled.wait()
        except BaseException:
            await self.__aexit__()
            raise
        if self._health is Health.FAILED:
            raise LoadFailed(self._detail)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process within its time."""
        self._set_health(Health.UNLOADED, "the engine was left")
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def models(self) -> Sequence[ModelCard]:
        """Say what was served last; nothing before the engine is entered."""
        return self._cards

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Ask the process; when it dies before `Started`, wait for the next one, unless it died of this twice."""
        ends = _after(request.timeout)
        while True:
            run = RunningRequest(request, on_trial=self._suspects.check(request))
            try:
                async with self._place(run, ends) as (remote, asked):
                    async with aclosing(remote.generate(asked)) as events:
                        async for event in events:
                            if type(event) is Started:
                                run.has_started = True
                                self._acquit(run)
                            yield event
                    self._suspects.clear(request)
                    return
            except ConnectionLost:
                continue

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Ask the process, and the next one when it dies."""
        return await self._ask(lambda remote: remote.embed(request), request.timeout)

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Ask the process, and the next one when it dies."""
        return await self._ask(lambda remote: remote.count_tokens(model, prompt), None)

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Ask the process, and the next one when it dies."""
        return await self._ask(lambda remote: remote.tokenize(model, prompt), None)

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Ask the process, and the next one when it dies."""
        return await self._ask(lambda remote: remote.detokenize(model, ids), None)

    async def render(self, model: str, chat: Chat) -> str:
        """Ask the process, and the next one when it dies."""
        return await self._ask(lambda remote: remote.render(model, chat), None)

    async def status(self) -> Status:
        """Ask the process how its engine is; say so where there is none, or it is about to be replaced."""
        remote = self._remote
        if self._health is not Health.READY or remote is None:
            return Status(health=self._health, detail=self._detail)
        status = await remote.status()
        if status.health is Health.FAILED:
            return structs.replace(status, health=Health.STARTING)
        return status

    async def _ask(self, question: Callable[[RemoteEngine], Awaitable[T]], seconds: float | None) -> T:
        ends = _after(seconds)
        try:
            return await question(await self._ready(ends))
        except ConnectionLost:
            return await question(await self._ready(ends))

    @asynccontextmanager
    async def _place(
        self, run: RunningRequest, ends: float | None
    ) -> AsyncGenerator[tuple[RemoteEngine, GenerateRequest], None]:
        """Count a request as running. Suspects begin one after another, so that the next death tells who it was."""
        if run.on_trial:
            await _by(ends, self._trial.acquire())
        try:
            remote = await self._ready(ends)
            left = None if ends is None else max(0.0, ends - _now())
            self._suspects.runs.append(run)
            try:
                yield remote, structs.replace(run.request, timeout=left)
            finally:
                self._suspects.runs.remove(run)
        finally:
            self._acquit(run)

    def _acquit(self, run: RunningRequest) -> None:
        """End the trial of a suspect: it has begun, or is gone."""
        if run.on_trial:
            run.on_trial = False
            self._trial.release()

    async def _ready(self, ends: float | None) -> RemoteEngine:
        """Wait until a process serves; raise `DeadlineExceeded`, or `Unavailable` when there will be none."""
        await _by(ends, self._settled.wait())
        if self._health is not Health.READY or self._remote is None:
            raise Unavailable(self._detail, retry_after=self._recipe.care.longest_delay)
        return self._remote

    def _set_health(self, health: Health, detail: str) -> None:
        self._health, self._detail = health, detail
        if health is Health.STARTING:
            self._settled.clear()
        else:
            self._settled.set()

    def _on_lost(self) -> None:
        """Take down who was running, before any of them hears that the process is gone."""
        if self._health is Health.READY:
            self._set_health(Health.STARTING, "the engine's process has ended; it is being replaced")
            self._suspects.blame(sum(card.places for card in self._cards))

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
            if self._cards:  # else whoever entered it is told, and says so
                self._log.bind(event="engine_failed").error("{}", error.message)
        except Exception as error:  # noqa: BLE001 - no descriptor, no memory, no program: say so, and serve no one
            self._set_health(Health.FAILED, "the engine's process could not be started; the log says why")
            self._log.opt(exception=error).bind(event="engine_failed").error("the engine's process did not start")

    async def _run_once(self) -> tuple[str, str, int]:
        """Run one process from start to death; return the reason, how it ended, and how many answers it finished."""
        kills = oom_kills()
        process = await self._start(self._recipe)
        remote = RemoteEngine(process.path, self._on_lost)
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
            how = await process.kill()
            await remote.__aexit__()
        if reason == "exit" and oom_kills() > kills:
            reason = "oom"
        return reason, f"was replaced ({reason}) and {how}" if reason in ("hang", "failed") else how, remote.served

    async def _enter(self, process: RunningProcess, remote: RemoteEngine) -> None:
        self.pid = process.pid
        await remote.connect()
        process.hide()
        try:
            async with asyncio.timeout(self._recipe.care.load):
                await remote.__aenter__()
        except TimeoutError as error:
            raise LoadFailed(f"the engine did not load within {self._recipe.care.load:g} s") from error
        self._remote, self._cards = remote, remote.models()
        self._set_health(Health.READY, "")

    async def _watch(self, remote: RemoteEngine) -> str:
        """Wait for the end of the process, or of its progress."""
        # Ticks are counted, not seconds: a stall of this event loop says nothing of the other process.
        tick = self._recipe.care.hang / _TICKS
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
        self._on_lost()
        return "hang"

    def _check_loop(self, how: str) -> None:
        care = self._recipe.care
        if len(self._deaths) == care.deaths and _now() - self._deaths[0] < care.window:
            raise LoadFailed(f"the engine's process died {care.deaths} times in a row; the last {how}")

    def _delay(self) -> float:
        """Return 0 after a first death, then longer and longer; at random, so that replicas do not step alike."""
        care = self._recipe.care
        recent = sum(_now() - death < care.window for death in self._deaths)
        if recent <= 1:
            return 0.0
        return min(care.delay * 2.0 ** (recent - 2), care.longest_delay) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _now() -> float:
    return asyncio.get_running_loop().time()


def _after(seconds: float | None) -> float | None:
    return None if seconds is None else _now() + seconds


async def _by(ends: float | None, waiting: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout_at(ends):
            await waiting
    except TimeoutError as error:
        raise DeadlineExceeded("the engine's process was not up again in time") from error
