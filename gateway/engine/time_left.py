"""The time that a request leaves for its answer, in an engine that waits for something else to answer it."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Self

from gateway.engine.errors import DeadlineExceeded


class TimeLeft:
    """So many seconds from now; without end where they are None."""

    def __init__(self, seconds: float | None) -> None:
        self._ends = None if seconds is None else _now() + seconds

    @classmethod
    def of(cls, arguments: Iterable[object]) -> Self:
        """Find the seconds that a request among the arguments of a question leaves."""
        found = (getattr(argument, "timeout", None) for argument in arguments)
        return cls(next((seconds for seconds in found if seconds is not None), None))

    @property
    def seconds(self) -> float | None:
        """The seconds that are left; 0 where it is over."""
        return None if self._ends is None else max(0.0, self._ends - _now())

    @asynccontextmanager
    async def limit(self, failure: str) -> AsyncGenerator[None, None]:
        """End what is awaited in the block when the time is over, and raise `DeadlineExceeded` with these words."""
        try:
            async with asyncio.timeout_at(self._ends):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(failure) from error


def _now() -> float:
    return asyncio.get_running_loop().time()
