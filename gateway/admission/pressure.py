"""Load shedding under memory pressure: large requests are refused first, then all, before the kernel kills."""

from collections.abc import Callable

from gateway.engine import Overloaded

# Shares of the limit from which on large requests, and then all, are turned away.
_HIGH = 0.90
_FULL = 0.95
_LARGE_TOKENS = 4_096
_SECONDS = 0.5


class MemoryPressure(Overloaded):
    """There is too little memory left."""

    code = "memory_pressure"


class Pressure:
    """Samples the memory; `read` returns the share of the limit that is used, `None` without a limit."""

    def __init__(self, read: Callable[[], float | None], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._share: float | None = None
        self._until = 0.0

    def check(self, tokens: int) -> None:
        """Raise `MemoryPressure` if too little memory is left for a request of so many tokens."""
        now = self._clock()
        if now >= self._until:
            self._share, self._until = self._read(), now + _SECONDS
        if self._share is not None and self._share > (_HIGH if tokens > _LARGE_TOKENS else _FULL):
            raise MemoryPressure(f"{self._share:.0%} of the memory is in use", retry_after=2.0)
