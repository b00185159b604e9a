"""The engines of this worker: load, lease, unload, reload and drain."""

import asyncio
import contextlib
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
from gateway.flow.tasks import Tasks
from gateway.hosting.directory import Directory
from gateway.hosting.hosted import HostedEngine
from gateway.isolation import EngineProcess, Starter

__all__ = ["HostedEngine", "Hosting"]

_STATUS_SECONDS = 1.0


class Hosting:
    """All engines of a configuration: to load one is to enter it, to unload it is to leave it."""

    def __init__(
        self, engines: Mapping[str, EngineSettings], drain_seconds: float, start: Starter = EngineProcess.start
    ) -> None:
        self._start = start
        self.drain_seconds = drain_seconds
        self._loads = Tasks()
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
        for hosted in self.engines:
            await self._leave(hosted, Health.UNLOADED, "the service has stopped")

    @property
    def health(self) -> Health:
        """The service's health: ready when every engine has settled and at least one serves."""
        if self.is_draining:
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
        """Hold an engine for one generation, so that it is not unloaded under it."""
        if hosted.engine is None:
            raise Unavailable(f"the engine {hosted.name!r} is not loaded")
        hosted.running.add(deadline)
        hosted.idle.clear()
        try:
            yield hosted.engine
        finally:
            hosted.running.discard(deadline)
            if not hosted.running:
                hosted.idle.set()

    async def load(self, name: str) -> HostedEngine:
        """Load the model `name`, or wait for the load under way; a loaded one is left as it is. Raise `LoadFailed`."""
        self._check_open()
        hosted = self.directory.named(name)
        await self._enter(hosted)
        if hosted.health is Health.FAILED:
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
            return Status(health=hosted.health, detail=hosted.detail)
        try:
            async with asyncio.timeout(_STATUS_SECONDS):
                status = await engine.status()
        except Exception as error:  # noqa: BLE001 - late, or whatever a plugin may raise
            if not hosted.is_silent and not isinstance(error, TimeoutError):
                logger.opt(exception=error).error("the engine {!r} cannot say how it is", hosted.name)
            if hosted.engine is engine:
                hosted.update(None)
            return Status(health=Health.FAILED, detail="the engine does not say how it is")
        if hosted.engine is engine:
            hosted.update(status)
        return status

    def drain(self) -> None:
        """Take nothing new from now on, and cut off what still runs when the time for it is over."""
        if not self.is_draining:
            self.is_draining = True
            if self.directory.loaded():
                logger.bind(event="draining").info("draining: what runs has {:g} s", self.drain_seconds)
            error = Draining("the service went down before the answer was finished")
            loop = asyncio.get_running_loop()
            loop.call_later(self.drain_seconds, _abort, self.engines, error)

    def _check_open(self) -> None:
        if self.is_draining:
            raise Draining("the service is going down and takes no new requests")

    async def _replace(self, old: HostedEngine | None, new: HostedEngine | None) -> None:
        """Leave the old engine before the new one is entered: two of them might not fit into memory."""
        if old is not None:
            await self._leave(old, Health.UNLOADED, "the configuration has another engine of this name, or none")
        if new is not None:
            await self._enter(new)

    async def _enter(self, hosted: HostedEngine) -> None:
        async with hosted.lock:
            if hosted.engine is not None and hosted.health is Health.READY:
                return
            await self._drop(hosted)
            hosted.health, hosted.detail = Health.STARTING, "the model is loading"
            started = asyncio.get_running_loop().time()
            try:
                # To build an engine may import torch, which takes seconds; the event loop answers meanwhile.
                engine = await asyncio.to_thread(hosted.build)
                hosted.engine = await engine.__aenter__()
                cards = tuple(hosted.engine.models())
                self.directory.check_cards(hosted, cards)
                hosted.cards = cards
            except asyncio.CancelledError:
                hosted.health, hosted.detail = Health.UNLOADED, "the load was given up"
                raise
            except LoadFailed as error:
                await self._drop(hosted)
                hosted.health, hosted.detail = Health.FAILED, error.message
                logger.bind(event="load_failed", engine=hosted.name).error("{}", error.message)
                return
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the others must go on
                await self._drop(hosted)
                hosted.health, hosted.detail = Health.FAILED, "the engine could not be loaded; the log says why"
                logger.opt(exception=error).bind(event="load_failed", engine=hosted.name).error(
                    "the engine did not load"
                )
                return
            hosted.health, hosted.detail = Health.READY, ""
            seconds = asyncio.get_running_loop().time() - started
            names = ", ".join(card.name for card in hosted.cards)
            logger.bind(event="loaded", engine=hosted.name, model=names).info(
                "{} is ready after {:.1f} s", names, seconds
            )

    async def _leave(self, hosted: HostedEngine, health: Health, detail: str) -> None:
        async with hosted.lock:
            hosted.health, hosted.detail = health, detail
            if hosted.engine is None:
                return
            await self._wait_idle(hosted)
            await self._drop(hosted)
            logger.bind(event="unloaded", engine=hosted.name).info("{} is unloaded", hosted.name)

    async def _drop(self, hosted: HostedEngine) -> None:
        """Leave the engine, if there is one; what goes wrong there must not keep the others from being left."""
        engine = hosted.detach()
        if engine is not None:
            try:
                await engine.__aexit__(None, None, None)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                logger.opt(exception=error).bind(event="unload_failed", engine=hosted.name).error(
                    "an engine left badly"
                )

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
