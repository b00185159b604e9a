"""An engine in a process of its own, which may die: the next process answers what the last one did not begin."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Self

from msgspec import structs

from gateway.engine import (
    EngineError,
    EngineMethod,
    ForwardingEngine,
    GenerateEvent,
    GenerateRequest,
    Health,
    LoadFailed,
    ModelCard,
    Started,
    Status,
    TimeLeft,
    Unavailable,
)
from gateway.isolation.client import ConnectionLost, RemoteEngine
from gateway.isolation.keeper import Keeper
from gateway.isolation.process import EngineProcess, ProcessSpec, Starter
from gateway.isolation.quarantine import AskedQuestion, Death, Quarantine, RunningCall

_LATE = "the engine's process was not up again in time"


class IsolatedEngine(ForwardingEngine):
    """Any plugin's engine in a process of its own, which is replaced when it dies."""

    def __init__(self, spec: ProcessSpec, start: Starter = EngineProcess.start) -> None:
        self._keeper = Keeper(spec, start, self._blame)
        self._quarantine = Quarantine()
        self._trial = asyncio.Lock()

    @property
    def restarts(self) -> Counter[str]:
        """The number of times that the process was replaced, by reason."""
        return self._keeper.restarts

    @property
    def pid(self) -> int | None:
        """The id of the process, while there is one."""
        return self._keeper.pid

    @property
    def detail(self) -> str:
        """Why no process serves now; empty where one does."""
        return self._keeper.detail

    @property
    def step(self) -> tuple[str, float] | None:
        """What the load of its process is at, and the share of that which is done; `None` where that is not known."""
        return self._keeper.step

    @property
    def given_up(self) -> str:
        """Why its process is not replaced any more; empty where one serves, or will again."""
        return self._keeper.detail if self._keeper.health is Health.FAILED else ""

    @property
    def is_up(self) -> bool:
        """Whether its process serves, and a call would not wait for the next one."""
        return self._keeper.health is Health.READY

    async def __aenter__(self) -> Self:
        """Start the process and wait until its engine is entered; raise `LoadFailed` when it never will be."""
        self._keeper.begin()
        try:
            await self._keeper.settled.wait()
        except BaseException:
            await self._keeper.end()
            raise
        if self._keeper.health is Health.FAILED:
            raise LoadFailed(self._keeper.detail)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process within its time."""
        await self._keeper.end()

    def models(self) -> Sequence[ModelCard]:
        """Return the cards of the last process that served; none before the engine is entered."""
        return self._keeper.cards

    async def generate(
        self, request: GenerateRequest, *, is_patient: bool = True
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Ask the process; when it dies before `Started`, ask the next one, unless it hung, or died twice, of this.

        A request that is not patient has another engine to go to: it is `Unavailable` while no process serves.
        """
        time = TimeLeft(request.timeout)
        while True:
            run = RunningCall(request, on_trial=self._quarantine.check(request))
            try:
                async with self._place(run, time, is_patient=is_patient) as remote:
                    asked = structs.replace(request, timeout=time.seconds)
                    async with aclosing(remote.generate(asked, run.number)) as events:
                        async for event in events:
                            if type(event) is Started:
                                run.has_started = True
                                self._end_trial(run)
                            yield event
                    self._quarantine.clear(request)
                    return
            except ConnectionLost:
                if run.verdict is not None:
                    raise run.verdict from None

    async def ask(self, method: EngineMethod, arguments: tuple[object, ...]) -> object:
        """Ask the process as `generate` does; wait for one as long as the arguments say."""
        time, question = TimeLeft.of(arguments), AskedQuestion(method.name, arguments)
        while True:
            run = RunningCall(question, on_trial=self._quarantine.check(question))
            try:
                async with self._place(run, time) as remote:
                    answer = await remote.ask(method, arguments, run.number)
            except ConnectionLost:
                if run.verdict is not None:
                    raise run.verdict from None
            else:
                self._quarantine.clear(question)
                return answer

    async def status(self) -> Status:
        """Ask the process how its engine is; answer for it where there is none, or it is about to be replaced."""
        if self._keeper.health is not Health.READY:
            return Status(health=self._keeper.health, detail=self._keeper.detail)
        status = await self._keeper.remote.status()
        if status.health is Health.FAILED:
            return structs.replace(status, health=Health.STARTING)
        return status

    @asynccontextmanager
    async def _place(
        self, run: RunningCall, time: TimeLeft, *, is_patient: bool = True
    ) -> AsyncGenerator[RemoteEngine, None]:
        """Count a call as running. Suspects begin one after another, so that the next death tells which it was."""
        if run.on_trial:
            async with time.limit(_LATE):
                await self._trial.acquire()
        try:
            if not is_patient and not self.is_up:
                raise Unavailable(self.detail)
            remote = await self._ready(time)
            run.number = remote.number()
            self._quarantine.runs.append(run)
            is_given_up = True
            try:
                yield remote
                is_given_up = False
            except EngineError:
                is_given_up = False
                raise
            finally:
                self._quarantine.leave(run, is_given_up=is_given_up)
        finally:
            self._end_trial(run)

    def _end_trial(self, run: RunningCall) -> None:
        """Let the next suspect begin: this one has started or left."""
        if run.on_trial:
            run.on_trial = False
            self._trial.release()

    def _blame(self, death: Death) -> None:
        self._quarantine.blame(sum(card.places for card in self._keeper.cards if not card.parent), death)

    async def _ready(self, time: TimeLeft) -> RemoteEngine:
        """Wait until a process serves; raise `DeadlineExceeded`, or `Unavailable` when there will be none."""
        while self._keeper.health is Health.STARTING:  # again, where the next one died before this task could run
            async with time.limit(_LATE):
                await self._keeper.settled.wait()
        return self._keeper.remote
