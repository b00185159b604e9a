"""The engines of this worker: load, lease, unload, reload and drain."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Self

from loguru import logger

from gateway.config import EngineSettings
from gateway.engine import (
    Draining,
    Engine,
    EngineError,
    Health,
    LoadFailed,
    ModelCard,
    Status,
    Unavailable,
)
from gateway.flow.deadline import Deadline
from gateway.flow.tasks import Tasks, is_cancelled
from gateway.hosting.directory import Directory
from gateway.hosting.hosted import HostedEngine
from gateway.isolation import EngineProcess, Starter

__all__ = ["HostedEngine", "Hosting"]

_STATUS_SECONDS = 1.0
_REPLACED = "the configuration has another engine of this name, or none"


class Hosting:
    """All engines of a configuration: to load one is to enter it, to unload it is to leave it."""

    def __init__(
        self, engines: Mapping[str, EngineSettings], drain_seconds: float, start: Starter = EngineProcess.start
    ) -> None:
        self._start = start
        self.drain_seconds = drain_seconds
        self._loads = Tasks()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._entered: dict[str, HostedEngine] = {}
        self.is_leaving = False
        self.is_draining = False
        self.directory = Directory(HostedEngine.of(name, settings, start) for name, settings in engines.items())
        self.settled = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to load every engine; do not wait for it, so that probes are answered meanwhile."""
        loads = [self._loads.start(self._enter(hosted)) for hosted in self.engines]
        self._loads.start(self._settle(loads))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loads.end()
        for hosted in dict.fromkeys([*self.engines, *self._entered.values()]):
            await self._leave(hosted, Health.UNLOADED, "the service has stopped")

    @property
    def health(self) -> Health:
        """The service's health: ready when every engine has settled and at least one serves."""
        if self.is_leaving:
            return Health.DRAINING
        return self.directory.health

    @property
    def engines(self) -> tuple[HostedEngine, ...]:
        """The engines, in the order of the configuration."""
        return self.directory.engines

    def find(self, model: str | None) -> tuple[HostedEngine, ModelCard]:
        """Find the engine that serves `model`, the first where it is `None`.

        Raises `UnknownModel`, `Unavailable`, or `Draining` while the service goes down.
        """
        self._check_open()
        return self.directory.find(model)

    @asynccontextmanager
    async def lease(self, hosted: HostedEngine, deadline: Deadline) -> AsyncGenerator[Engine, None]:
        """Hold an engine for one generation, so that it is not unloaded under it.

        What it raises that no program expects, a panic or an exit, becomes an `EngineError`.
        """
        if hosted.engine is None:
            raise Unavailable(f"the engine {hosted.name!r} is not loaded")
        hosted.running.add(deadline)
        hosted.idle.clear()
        try:
            yield hosted.engine
        except (Exception, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            logger.opt(exception=error).error("the engine {!r} raised what no engine may raise", hosted.name)
            raise EngineError("the engine failed; the log says why") from error
        finally:
            hosted.running.discard(deadline)
            if not hosted.running:
                hosted.idle.set()

    async def load(self, name: str) -> HostedEngine:
        """Load the model `name`, or wait for the load under way; a loaded one is left as it is. Raise `LoadFailed`."""
        self._check_open()
        hosted = self.directory.named(name)
        await self._enter(hosted)
        if hosted.health is not Health.READY:
            raise LoadFailed(hosted.detail)
        return hosted

    async def unload(self, name: str) -> HostedEngine:
        """Let what runs finish, then give the memory back; an unloaded model is left as it is."""
        hosted = self.directory.named(name)
        await self._leave(hosted, Health.UNLOADED, "the model was unloaded; load it to use it again")
        return hosted

    async def reload(self, engines: Mapping[str, EngineSettings]) -> None:
        """Change to other engines: unchanged ones run on; the others finish their requests, then leave or load anew.

        Returns at once; the outcome of each load is in the log.
        """
        before = {hosted.name: hosted for hosted in self.engines}
        same = {name for name, settings in engines.items() if name in before and before[name].config == settings}
        found = {
            name: before[name] if name in same else HostedEngine.of(name, engines[name], self._start)
            for name in engines
        }
        self.directory.engines = tuple(found.values())
        for name in (before.keys() | found.keys()) - same:
            self._loads.start(self._replace(before.get(name), found.get(name)))

    async def ask_all(self) -> list[Status]:
        """Ask every engine how it is, at once."""
        return await asyncio.gather(*map(self.status, self.engines))

    async def status(self, hosted: HostedEngine) -> Status:
        """Ask the engine how it is; one that is not loaded is answered for."""
        engine = hosted.engine
        if engine is None or hosted.health is not Health.READY:
            return Status(health=hosted.health, detail=hosted.reason)
        try:
            async with asyncio.timeout(_STATUS_SECONDS):
                status = await engine.status()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - late, or whatever a plugin may raise
            if not hosted.is_silent and not isinstance(error, TimeoutError):
                logger.opt(exception=error).error("the engine {!r} cannot say how it is", hosted.name)
            if hosted.engine is engine:
                hosted.update(None)
            return Status(health=Health.FAILED, detail="the engine does not say how it is")
        if hosted.engine is engine:
            hosted.update(status)
        return status

    def announce(self) -> None:
        """Say to probes that the service goes down, so that balancers turn away; requests are taken as before."""
        self.is_leaving = True
        logger.bind(event="announced").info("the service goes down; until balancers have seen it, requests are taken")

    def drain(self) -> None:
        """Take nothing new from now on, and cut off what still runs when the time for it is over."""
        if not self.is_draining:
            self.is_leaving = self.is_draining = True
            if self.directory.loaded():
                logger.bind(event="draining").info("draining: what runs has {:g} s", self.drain_seconds)
            # A generation that several clients share has a lease and no request; `InFlight.finish` ends the rest.
            error = Draining("the service went down before the answer was finished")
            loop = asyncio.get_running_loop()
            loop.call_later(self.drain_seconds, _abort, self.engines, error)

    def _check_open(self) -> None:
        if self.is_draining:
            raise Draining("the service is going down and takes no new requests")

    async def _replace(self, old: HostedEngine | None, new: HostedEngine | None) -> None:
        if old is not None:
            await self._leave(old, Health.UNLOADED, _REPLACED)
        if new is not None:
            await self._enter(new)

    async def _enter(self, hosted: HostedEngine) -> None:
        """Enter an engine, unless another reload has removed it meanwhile.

        The engine that has its name is left first: two of them might not fit into memory, and a name is one process.
        """
        async with self._locks[hosted.name]:
            if hosted not in self.engines:
                hosted.health, hosted.detail = Health.UNLOADED, _REPLACED
                return
            if hosted.engine is not None and hosted.health is Health.READY:
                return
            if (other := self._entered.get(hosted.name, hosted)) is not hosted:
                await self._empty(other)
            self._entered[hosted.name] = hosted
            await hosted.enter(self.directory.check_cards)

    async def _leave(self, hosted: HostedEngine, health: Health, detail: str) -> None:
        async with self._locks[hosted.name]:
            hosted.health, hosted.detail = health, detail
            await self._empty(hosted)

    async def _empty(self, hosted: HostedEngine) -> None:
        """Let what runs finish, then leave the engine, if there is one."""
        if hosted.engine is not None:
            await self._wait_idle(hosted)
            await hosted.leave()
            logger.bind(event="unloaded", engine=hosted.name).info("{} is unloaded", hosted.name)
        if self._entered.get(hosted.name) is hosted:
            del self._entered[hosted.name]

    async def _wait_idle(self, hosted: HostedEngine) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain_seconds):
                await hosted.idle.wait()
        _abort((hosted,), Unavailable("the model was unloaded before the answer was finished"))
        await hosted.idle.wait()

    async def _settle(self, loads: Iterable[asyncio.Task[None]]) -> None:
        await asyncio.gather(*loads, return_exceptions=True)
        self.settled.set()


def _abort(found: Iterable[HostedEngine], error: EngineError) -> None:
    for deadline in [deadline for hosted in found for deadline in hosted.running]:
        deadline.abort(error)
