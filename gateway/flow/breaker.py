"""A circuit breaker: closed while attempts succeed, open after failures, half open to try again with one probe.

The pattern of Nygard, Release It! (2007).
"""

import random
from collections import deque
from collections.abc import Callable
from enum import StrEnum

_DOUBLINGS = 16


class State(StrEnum):
    """Whether attempts are let through: all of them, none, or one to find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after `failures` in a row, or when half of the last `window` attempts failed.

    It stays open for 5 to 10 seconds, so that several gateways do not come back at the same moment, and after each
    attempt that fails then twice as long, up to `longest` seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        failures: int = 5,
        window: int = 20,
        seconds: tuple[float, float] = (5.0, 10.0),
        longest: float = 10.0,
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._seconds = seconds
        self._longest = longest
        self._times = 0
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=window)
        self._is_open = False
        self._until = 0.0
        self._is_probing = False
        self._era = 0

    @property
    def state(self) -> State:
        """The state now."""
        if not self._is_open:
            return State.CLOSED
        return State.OPEN if self._clock() < self._until else State.HALF_OPEN

    @property
    def wait(self) -> float:
        """Seconds until an attempt may be made; 0 unless it is open."""
        return max(self._until - self._clock(), 0.0) if self._is_open else 0.0

    @property
    def is_free(self) -> bool:
        """Whether an attempt would be let through."""
        state = self.state
        return state is State.CLOSED or (state is State.HALF_OPEN and not self._is_probing)

    def try_now(self) -> None:
        """End the wait of an open breaker: the other side is back, and one attempt may try it."""
        if self.state is State.OPEN:
            self._until = self._clock()

    def leave_alone(self, seconds: float) -> None:
        """Keep an open breaker open for so long, at least: the other side is still away."""
        if self._is_open and not self._is_probing:
            self._until = max(self._until, self._clock() + seconds)

    def attempt(self) -> "Attempt | None":
        """Let an attempt through, or `None`: it is open, or its one probe is still under way."""
        if not self.is_free:
            return None
        self._is_probing = self._is_open
        return Attempt(self, self._era)

    def tell(self, era: int, *, went_well: bool | None) -> None:
        """Take the outcome of an attempt of `era`, `None` for neither; news from before the last change is stale."""
        if era != self._era:
            return
        if self._is_open:
            self._is_probing = False
            if went_well is not None:
                self._turn(is_open=not went_well)
            return
        if went_well is None:
            return
        self._recent.append(went_well)
        self._in_a_row = 0 if went_well else self._in_a_row + 1
        full = len(self._recent) == self._recent.maxlen
        if self._in_a_row >= self._failures or (full and 2 * sum(self._recent) <= len(self._recent)):
            self._turn(is_open=True)

    def _turn(self, *, is_open: bool) -> None:
        self._is_open = is_open
        self._era += 1
        self._in_a_row = 0
        self._recent.clear()
        if is_open:
            self._until = self._clock() + self._draw()
            self._times += 1
        else:
            self._times = 0

    def _draw(self) -> float:
        """Draw the seconds that it stays open."""
        least, most = self._seconds
        factor = min(2.0 ** min(self._times, _DOUBLINGS), max(self._longest / most, 1.0))
        return random.uniform(least, most) * factor  # noqa: S311 - no secret


class Attempt:
    """One try through a breaker; only the first word about it counts."""

    __slots__ = ("_breaker", "_era", "_told")

    def __init__(self, breaker: Breaker, era: int) -> None:
        self._breaker = breaker
        self._era = era
        self._told = False

    def begin(self) -> None:
        """Count a success if it is the one try of an open breaker: a beginning is enough; others count at their end."""
        if self._breaker.state is not State.CLOSED:
            self.succeed()

    def succeed(self) -> None:
        """Count a success."""
        self._tell(went_well=True)

    def fail(self) -> None:
        """Count a failure that was not the caller's fault."""
        self._tell(went_well=False)

    def give_up(self) -> None:
        """Count nothing; harmless after `succeed` and `fail`."""
        self._tell(went_well=None)

    def _tell(self, *, went_well: bool | None) -> None:
        if not self._told:
            self._told = True
            self._breaker.tell(self._era, went_well=went_well)
