"""Engines side by side: entering one is loading it, leaving one is unloading it."""

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
    UnknownModel,
)
from gateway.flow.deadline import Deadline
from gateway.flow.tasks import Tasks
from gateway.hosting.hosted import HostedEngine
from gateway.isolation import EngineProcess, Starter

__all__ = ["HostedEngine", "Hosting"]

_STATUS_SECONDS = 1.0


class Hosting:
    """All the engines of a configuration. The only place that knows where engines run."""

    def __init__(
        self, engines: Mapping[str, EngineSettings], drain_seconds: float, start: Starter = EngineProcess.start
    ) -> None:
        self._start = start
        self.drain_seconds = drain_seconds
        self._loads = Tasks()
        self.is_draining = False
        self.engines = tuple(HostedEngine.of(name, settings, start) for name, settings in engines.items())
        self.settled = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to load every engine; do not wait for it, so that probes are answered meanwhile."""
        loads = [self._loads.start(self._enter(seat)) for seat in self.engines]
        self._loads.start(self._settle(loads))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loads.end()
        for seat in self.engines:
            await self._leave(seat, Health.UNLOADED, "the service has stopped")

    @property
    def health(self) -> Health:
        """The service's health: ready when every engine has settled and at least one serves."""
        if self.is_draining:
            return Health.DRAINING
        found = {seat.effective_health for seat in self.engines}
        order = (Health.STARTING, Health.READY, Health.FAILED)
        return next((health for health in order if health in found), Health.UNLOADED)

    def loaded(self) -> list[tuple[str, ModelCard]]:
        """List the cards of the loaded models, with their engines' plugins."""
        return [(seat.plugin, card) for seat in self.engines if seat.health is Health.READY for card in seat.cards]

    def up(self) -> dict[str, bool]:
        """Say of each engine whether it serves."""
        return {seat.name: seat.effective_health is Health.READY for seat in self.engines}

    def restarts(self) -> Mapping[tuple[str, ...], float]:
        """Count how often each engine's process was replaced, by engine and reason."""
        return {(seat.name, reason): number for seat in self.engines for reason, number in seat.restarts.items()}

    def name_of(self, model: str | None) -> str:
        """Say what the model is called that `model` means, whether it is ready or not; empty for none of ours."""
        if model is None:
            return self.engines[0].cards[0].name if self.engines[0].cards else ""
        return next((card.name for seat in self.engines if (card := seat.answers_to(model))), "")

    def find(self, model: str | None) -> tuple[HostedEngine, ModelCard]:
        """Find who serves `model` (the first engine where it is `None`); raise `UnknownModel` or `Unavailable`."""
        self._check_open()
        if model is None:
            seat = self.engines[0]
            return self._ready(seat), seat.cards[0]
        for seat in self.engines:
            if card := seat.answers_to(model):
                return self._ready(seat), card
        for seat in self.engines:
            if seat.name == model:
                self._ready(seat)
        self._check_settled()
        raise UnknownModel(f"there is no model {model!r}; there is {_names(self.engines)}", param="model")

    @asynccontextmanager
    async def lease(self, seat: HostedEngine, deadline: Deadline) -> AsyncGenerator[Engine, None]:
        """Hold an engine for one generation, so that it is not unloaded under it."""
        if seat.engine is None:
            raise Unavailable(f"the engine {seat.name!r} is not loaded")
        seat.running.add(deadline)
        seat.idle.clear()
        try:
            yield seat.engine
        finally:
            seat.running.discard(deadline)
            if not seat.running:
                seat.idle.set()

    async def load(self, name: str) -> HostedEngine:
        """Load the model `name`, or wait for the load under way; a loaded one is left as it is. Raise `LoadFailed`."""
        self._check_open()
        seat = self._named(name)
        await self._enter(seat)
        if seat.health is Health.FAILED:
            raise LoadFailed(seat.detail)
        return seat

    async def unload(self, name: str) -> HostedEngine:
        """Let what runs finish, then give the memory back; an unloaded model is left as it is."""
        seat = self._named(name)
        await self._leave(seat, Health.UNLOADED, "the model was unloaded; load it to use it again")
        return seat

    async def reload(self, engines: Mapping[str, EngineSettings]) -> None:
        """Go over to other engines: what is unchanged runs on; the rest finish what they run, and leave or load anew.

        Returns at once; how each load went is in the log.
        """
        before = {seat.name: seat for seat in self.engines}
        same = {name for name, settings in engines.items() if name in before and before[name].config == settings}
        seats = {
            name: before[name] if name in same else HostedEngine.of(name, engines[name], self._start)
            for name in engines
        }
        self.engines = tuple(seats.values())
        for name in (before.keys() | seats.keys()) - same:
            self._loads.start(self._replace(before.get(name), seats.get(name)))

    async def ask_all(self) -> list[Status]:
        """Ask every engine how it is, at once."""
        return await asyncio.gather(*map(self.status, self.engines))

    async def status(self, seat: HostedEngine) -> Status:
        """Ask the engine how it is; one that is not loaded is answered for."""
        engine = seat.engine
        if engine is None or seat.health is not Health.READY:
            return Status(health=seat.health, detail=seat.detail)
        try:
            async with asyncio.timeout(_STATUS_SECONDS):
                status = await engine.status()
        except Exception as error:  # noqa: BLE001 - late, or whatever a plugin may raise
            if not seat.is_silent and not isinstance(error, TimeoutError):
                logger.opt(exception=error).error("the engine {!r} cannot say how it is", seat.name)
            if seat.engine is engine:
                seat.update(None)
            return Status(health=Health.FAILED, detail="the engine does not say how it is")
        if seat.engine is engine:
            seat.update(status)
        return status

    def drain(self) -> None:
        """Take nothing new from now on, and cut off what still runs when the time for it is over."""
        if not self.is_draining:
            self.is_draining = True
            if self.loaded():
                logger.bind(event="draining").info("draining: what runs has {:g} s", self.drain_seconds)
            error = Draining("the service went down before the answer was finished")
            loop = asyncio.get_running_loop()
            loop.call_later(self.drain_seconds, _abort, self.engines, error)

    def _check_open(self) -> None:
        if self.is_draining:
            raise Draining("the service is going down and takes no new requests")

    def _ready(self, seat: HostedEngine) -> HostedEngine:
        if seat.health is not Health.READY:
            raise Unavailable(f"the model is not ready: {seat.detail}", retry_after=2.0)
        return seat

    def _named(self, name: str) -> HostedEngine:
        found = next((seat for seat in self.engines if seat.name == name or seat.answers_to(name)), None)
        if found is not None:
            return found
        self._check_settled()
        raise UnknownModel(f"there is no model {name!r}; there is {_names(self.engines)}", param="name")

    def _check_settled(self) -> None:
        """Refuse to say what there is not while an engine loads, for that one may serve it."""
        for seat in self.engines:
            if seat.health is Health.STARTING:
                self._ready(seat)

    async def _replace(self, old: HostedEngine | None, new: HostedEngine | None) -> None:
        """Leave the old engine before the new one is entered: two of them might not fit into memory."""
        if old is not None:
            await self._leave(old, Health.UNLOADED, "the configuration has another engine of this name, or none")
        if new is not None:
            await self._enter(new)

    async def _enter(self, seat: HostedEngine) -> None:
        async with seat.lock:
            if seat.engine is not None and seat.health is Health.READY:
                return
            await self._drop(seat)
            seat.health, seat.detail = Health.STARTING, "the model is loading"
            started = asyncio.get_running_loop().time()
            try:
                # To build an engine may import torch, which takes seconds; the event loop answers meanwhile.
                engine = await asyncio.to_thread(seat.build, seat.settings)
                seat.engine = await engine.__aenter__()
                seat.cards = self._checked_cards(seat, tuple(seat.engine.models()))
            except asyncio.CancelledError:
                seat.health, seat.detail = Health.UNLOADED, "the load was given up"
                raise
            except LoadFailed as error:
                await self._drop(seat)
                seat.health, seat.detail = Health.FAILED, error.message
                logger.bind(event="load_failed", engine=seat.name).error("{}", error.message)
                return
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the others must go on
                await self._drop(seat)
                seat.health, seat.detail = Health.FAILED, "the engine could not be loaded; the log says why"
                logger.opt(exception=error).bind(event="load_failed", engine=seat.name).error("the engine did not load")
                return
            seat.health, seat.detail = Health.READY, ""
            seconds = asyncio.get_running_loop().time() - started
            names = ", ".join(card.name for card in seat.cards)
            logger.bind(event="loaded", engine=seat.name, model=names).info(
                "{} is ready after {:.1f} s", names, seconds
            )

    async def _leave(self, seat: HostedEngine, health: Health, detail: str) -> None:
        async with seat.lock:
            seat.health, seat.detail = health, detail
            if seat.engine is None:
                return
            await self._wait_idle(seat)
            await self._drop(seat)
            logger.bind(event="unloaded", engine=seat.name).info("{} is unloaded", seat.name)

    async def _drop(self, seat: HostedEngine) -> None:
        """Leave the engine, if there is one; what goes wrong there must not keep the others from being left."""
        engine = seat.detach()
        if engine is not None:
            try:
                await engine.__aexit__(None, None, None)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                logger.opt(exception=error).bind(event="unload_failed", engine=seat.name).error("an engine left badly")

    def _checked_cards(self, seat: HostedEngine, cards: tuple[ModelCard, ...]) -> tuple[ModelCard, ...]:
        """Refuse an engine that serves nothing, or a name that another serves: who asks could not tell them apart."""
        if not cards:
            raise LoadFailed("the engine serves no model")
        taken = {card.name: other.name for other in self.engines if other is not seat for card in other.cards}
        for card in cards:
            if card.name in taken:
                raise LoadFailed(f"the engine {taken[card.name]!r} serves the name {card.name!r} already")
        return cards

    async def _wait_idle(self, seat: HostedEngine) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain_seconds):
                await seat.idle.wait()
        _abort((seat,), Unavailable("the model was unloaded before the answer was finished"))
        await seat.idle.wait()

    async def _settle(self, loads: Iterable[asyncio.Task[None]]) -> None:
        await asyncio.gather(*loads, return_exceptions=True)
        self.settled.set()


def _abort(seats: Iterable[HostedEngine], error: EngineError) -> None:
    for deadline in [deadline for seat in seats for deadline in seat.running]:
        deadline.abort(error)


def _names(seats: tuple[HostedEngine, ...]) -> str:
    return ", ".join(repr(card.name) for seat in seats for card in seat.cards) or "none loaded"
