"""Requests that were running when the engine's process died; one that was there twice is not run again."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from msgspec import Struct, structs

from gateway.engine import GenerateRequest, Quarantined

_STRIKES = 2


class RunningRequest(Struct, eq=False):
    """A request that was handed to the process; on trial, it is a suspect that begins while no other suspect does."""

    request: GenerateRequest
    on_trial: bool = False
    has_started: bool = False


class Quarantine:
    """Remembers the last `most` requests for `seconds`, by a hash that is the same for every caller."""

    def __init__(self, most: int = 1000, seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.runs: list[RunningRequest] = []
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._strikes: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def check(self, request: GenerateRequest) -> bool:
        """Tell whether it has one strike; raise `Quarantined` if it has two."""
        strikes = self._count(_mark(request)) if self._strikes else 0
        if strikes >= _STRIKES:
            raise Quarantined("the engine's process ended twice while it ran this request; it is not run again for now")
        return strikes > 0

    def blame(self, places: int) -> None:
        """Count a strike against each request that the process may have died of: those on trial, or else all that ran.

        The engine runs no more than `places` at once; further requests that had not started were only waiting.
        """
        started = [run for run in self.runs if run.has_started]
        begun = [run for run in self.runs if not run.has_started][: max(0, places - len(started))]
        tried = [run for run in begun if run.on_trial]
        for mark in {_mark(run.request) for run in tried or started + begun}:
            strikes = self._count(mark)
            self._strikes.pop(mark, None)
            self._strikes[mark] = (strikes + 1, self._clock())
        while len(self._strikes) > self._most:
            self._strikes.popitem(last=False)

    def clear(self, request: GenerateRequest) -> None:
        """Forget a request that was answered to its end."""
        if self._strikes:
            self._strikes.pop(_mark(request), None)

    def _count(self, mark: bytes) -> int:
        strikes, at = self._strikes.get(mark, (0, 0.0))
        return strikes if self._clock() - at < self._seconds else 0


def _mark(request: GenerateRequest) -> bytes:
    """Hash all that the engine's work depends on, and neither the caller nor the time."""
    asked = structs.replace(request, id="", timeout=None, priority=0, trace=None, salt="")
    return hashlib.sha256(msgspec.msgpack.encode(asked)).digest()
