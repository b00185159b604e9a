"""The engines of this worker: load, lease, unload, reload and drain."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Self

from loguru import logger
from msgspec import structs

from gateway.config import EngineSettings, ModelsSettings
from gateway.engine import (
    Draining,
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
from gateway.hosting.lease import Lease, abort_all, wait_idle
from gateway.hosting.loads import Loads, LoadWork
from gateway.hosting.resident import Bounds, Stage
from gateway.hosting.status import ask_status
from gateway.isolation import EngineProcess, Starter

__all__ = ["HostedEngine", "Hosting"]

_REPLACED = "the configuration has another engine of this name, or none"


class Hosting:
    """All engines of a configuration: to load one is to enter it, to unload it is to leave it.

    `models` bounds what is loaded at once. `there` names the engines whose processes run already, since an earlier
    worker had them: they are taken over.
    """

    def __init__(
        self,
        engines: Mapping[str, EngineSettings],
        drain_seconds: float,
        start: Starter = EngineProcess.start,
        models: ModelsSettings = ModelsSettings(),  # noqa: B008 - it never changes
        there: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._start = start
        self._there = there
        self.drain_seconds = drain_seconds
        self._tasks = Tasks()
        self.loads = Loads(LoadWork(self._enter, self._release), _bounds(models))
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._entered: dict[str, HostedEngine] = {}
        self.is_leaving = False
        self.is_draining = False
        self.directory = Directory(HostedEngine.of(name, settings, start) for name, settings in engines.items())
        for hosted in self.engines:
            self.loads.add(hosted)
        self.settled = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to load the engines of the start; do not wait for it, so that probes are answered meanwhile."""
        there = self._there()
        wanted = [hosted for hosted in self.engines if hosted.config.load == "start" or hosted.name in there]
        self._tasks.start(self._settle(wanted, there))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.end()
        await self.loads.end()
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

    def lease(
        self, hosted: HostedEngine, deadline: Deadline, until: float | None = None, *, is_patient: bool = True
    ) -> Lease:
        """Make the hold of one request on an engine, so that it is loaded, and is not unloaded under it."""
        return Lease(self.loads, hosted, deadline, until, is_patient=is_patient)

    async def load(self, name: str) -> HostedEngine:
        """Load the model `name`, or wait for the load under way; a loaded one is left as it is.

        Raises `LoadFailed`, at once where it can never fit.
        """
        self._check_open()
        hosted = self.directory.named(name)
        if not self.loads.take(hosted):
            try:
                await self.loads.hold(hosted, by_hand=True)
            except Unavailable as error:
                raise LoadFailed(error.message) from error
        self.loads.give(hosted)
        return hosted

    async def unload(self, name: str) -> HostedEngine:
        """Let what runs finish, then give the memory back; an unloaded model is left as it is."""
        hosted = self.directory.named(name)
        if hosted.config.load != "demand":
            self.loads.retire(hosted, "it was unloaded by hand")
        how = "the next request loads it" if hosted.is_on_call else "load it to use it again"
        await self._leave(hosted, Health.UNLOADED, f"the model was unloaded; {how}")
        return hosted

    async def reload(
        self,
        engines: Mapping[str, EngineSettings],
        models: ModelsSettings = ModelsSettings(),  # noqa: B008 - as above
    ) -> None:
        """Change to other engines: unchanged ones run on; the others finish their requests, then leave or load anew.

        Returns at once; the outcome of each load is in the log. Requests that wait for the load of an engine that goes
        are refused. When an engine is loaded and unloaded may change while it runs on.
        """
        before = {hosted.name: hosted for hosted in self.engines}
        same = {name for name, settings in engines.items() if name in before and _same(before[name].config, settings)}
        found = {
            name: before[name] if name in same else HostedEngine.of(name, engines[name], self._start)
            for name in engines
        }
        self.directory.engines = tuple(found.values())
        for name in same:
            found[name].configure(engines[name])
        self.loads.configure(_bounds(models))
        for name in (before.keys() | found.keys()) - same:
            if (old := before.get(name)) is not None:
                self.loads.retire(old, _REPLACED)
            if (new := found.get(name)) is not None:
                self.loads.add(new)
            self._tasks.start(self._replace(old, new))

    async def ask_all(self) -> list[Status]:
        """Ask every engine how it is, at once."""
        return await asyncio.gather(*map(self.status, self.engines))

    status = staticmethod(ask_status)

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
            loop.call_later(self.drain_seconds, abort_all, self.engines, error)

    def _check_open(self) -> None:
        if self.is_draining:
            raise Draining("the service is going down and takes no new requests")

    async def _replace(self, old: HostedEngine | None, new: HostedEngine | None) -> None:
        if old is not None:
            await self._leave(old, Health.UNLOADED, _REPLACED)
            self.loads.remove(old)
        if new is not None and new.config.load == "start" and await self.loads.begin(new):
            await self.loads.run(new)

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
            if is_there := hosted.resident.stage in (Stage.LOADED, Stage.LEAVING):
                self.loads.residency.leave(hosted.resident)
            await self._empty(hosted)
            if is_there:
                self.loads.residency.left(hosted.resident)
        self.loads.step()

    async def _release(self, hosted: HostedEngine) -> None:
        """Unload an engine that made room or was idle; it keeps what it says of itself."""
        await self._leave(hosted, hosted.health, hosted.detail)

    async def _empty(self, hosted: HostedEngine) -> None:
        """Let what runs finish, then leave the engine, if there is one."""
        if hosted.engine is not None:
            await wait_idle(hosted, self.drain_seconds)
            await hosted.leave()
            logger.bind(event="unloaded", engine=hosted.name).info("{} is unloaded", hosted.name)
        if self._entered.get(hosted.name) is hosted:
            del self._entered[hosted.name]

    async def _settle(self, wanted: Iterable[HostedEngine], there: Collection[str]) -> None:
        """Load the engines of the start side by side, as many as there is room for, in their order."""
        loads = [
            self._tasks.start(self.loads.run(hosted))
            for hosted in wanted
            if await self.loads.begin(hosted, is_there=hosted.name in there)
        ]
        await asyncio.gather(*loads, return_exceptions=True)
        self.settled.set()


def _bounds(models: ModelsSettings) -> Bounds:
    return Bounds(models.memory_budget, models.max_loaded)


def _same(one: EngineSettings, other: EngineSettings) -> bool:
    """Tell whether settings differ at most in when the engine is loaded and unloaded."""
    return one == structs.replace(other, load=one.load, idle_seconds=one.idle_seconds, pinned=one.pinned)
