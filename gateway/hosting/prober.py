"""Looks after engines that are left alone: a light question finds out whether to ask them again, and no request."""

import asyncio
import random
from typing import Self

from msgspec import Struct

from gateway.admission import Admission, ModelQueue
from gateway.engine import Health
from gateway.flow.breaker import State
from gateway.flow.tasks import Tasks
from gateway.hosting.directory import Directory
from gateway.hosting.hosted import HostedEngine

# Seconds between two looks at all breakers, that an engine has for its answer, and at most between two questions.
_TICK = 0.5
_PATIENCE = 2.0
_LONGEST = 10.0
_DOUBLINGS = 8


class Absence(Struct):
    """An engine that is left alone: how often it was asked, and when it is asked next."""

    times: int = 0
    next_at: float = 0.0


class Prober:
    """Probes each engine of which a model is left alone, at first after half a second, then less and less often.

    As long as what is behind the engine is away, its breaker stays open; once it is back, one request may try it.
    An engine that cannot tell (`None`) leaves that to the breaker's own time.
    """

    def __init__(self, directory: Directory, admission: Admission) -> None:
        self._directory = directory
        self._admission = admission
        self._absent: dict[str, Absence] = {}
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        """Begin to probe."""
        self._tasks.start(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.end()

    async def look(self) -> None:
        """Ask all engines whose time has come."""
        absent = {hosted.name: hosted for hosted in self._directory.engines if self._open(hosted)}
        for name in self._absent.keys() - absent.keys():
            del self._absent[name]
        due = [
            each
            for name, each in absent.items()
            if self._absent.setdefault(name, Absence()).next_at <= self._admission.clock()
        ]
        await asyncio.gather(*map(self._probe, due))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_TICK * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            await self.look()

    def _open(self, hosted: HostedEngine) -> list[ModelQueue]:
        """List the queues of an engine's models that are left alone."""
        if hosted.engine is None or hosted.health is not Health.READY:
            return []
        queues = self._admission.queues_of(hosted.cards)
        return [queue for queue in queues if queue.breaker.state is not State.CLOSED]

    async def _probe(self, hosted: HostedEngine) -> None:
        is_there = await _is_there(hosted)
        absence = self._absent[hosted.name]
        delay = min(2.0**absence.times, _LONGEST) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        absence.times = min(absence.times + 1, _DOUBLINGS)
        absence.next_at = self._admission.clock() + delay
        for queue in self._open(hosted):
            if is_there:
                queue.breaker.try_now()
            elif is_there is False:
                queue.breaker.leave_alone(delay + _TICK + _PATIENCE)


async def _is_there(hosted: HostedEngine) -> bool | None:
    """Ask an engine whether what is behind it is there; one that fails or is late says no."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return None if hosted.engine is None else await hosted.engine.probe()
    except Exception:  # noqa: BLE001 - whatever a plugin raises, it says no
        return False
