"""The stream of events that a request reads from the cache, kept or still being made."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from enum import StrEnum
from types import TracebackType

from gateway.cache.single_flight import Flight
from gateway.engine import GenerateEvent


class CacheStatus(StrEnum):
    """How a request came to its answer: the `x-cache` header."""

    HIT = "hit"
    COALESCED = "coalesced"
    MISS = "miss"


class Replay(AsyncGenerator[GenerateEvent, None]):
    """A stream of events like an engine's own; to close it is to leave, also before its first event.

    After that `owed` is the generation that this reader pays for; `None` where another does, or where none was made.
    """

    def __init__(self, status: CacheStatus, flight: Flight, leave: Callable[[], Awaitable[None]]) -> None:
        self.status = status
        self.owed: Flight | None = None
        self._flight = flight
        self._events = flight.follow()
        self._leave: Callable[[], Awaitable[None]] | None = leave

    @property
    def maker(self) -> str | None:
        """The `traceparent` of the other request that makes, or made, the answer; `None` where it has no trace."""
        return None if self.status is CacheStatus.MISS else self._flight.work.trace

    def __anext__(self) -> Coroutine[None, None, GenerateEvent]:
        """Return the next event."""
        return self._events.__anext__()

    async def aclose(self) -> None:
        """Leave the flight; the last follower to leave ends it."""
        leave, self._leave = self._leave, None
        try:
            await self._events.aclose()
        finally:
            if leave is not None:
                await leave()

    def asend(self, value: None) -> Coroutine[None, None, GenerateEvent]:
        """Return the next event."""
        return self._events.asend(value)

    def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Coroutine[None, None, GenerateEvent]:
        """Raise in the stream; close it afterwards."""
        return self._events.athrow(typ, val, tb)  # type: ignore[arg-type]  # its two forms in one
