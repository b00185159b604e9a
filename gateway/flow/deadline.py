"""One timer a generation, and the one way to end a generation from outside."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Self, TypeVar

from msgspec import Struct

from gateway.engine import DeadlineExceeded, EngineError

T = TypeVar("T")


class Timeouts(Struct, frozen=True, kw_only=True):
    """The time-outs of a request, in seconds: for all of it, in the queue, and until the first token."""

    total: float | None = None
    queue: float | None = None
    first_token: float | None = None


class Deadline:
    """Waits for the parts of a generation until the time is up or it is aborted.

    A time-out around each event would cost some 6 µs a token; one timer that cancels the wait in flight costs none.
    It runs from `arm` on: the wait in the queue before that has a timer of its own. Moments are those of
    `time.monotonic`.
    """

    def __init__(self, seconds: float, first_seconds: float | None = None) -> None:
        now = time.monotonic()
        self.ends = now + seconds
        self.first = self.ends if first_seconds is None else min(self.ends, now + first_seconds)
        self._seconds = seconds
        self._first_seconds = first_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Task[object] | None = None
        self._error: EngineError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._disarm()
        self._error = None  # raised from `wait`, its traceback leads back here

    @property
    def left(self) -> float:
        """The seconds until all must be over."""
        return max(0.0, self.ends - time.monotonic())

    def arm(self) -> None:
        """Let the time run: until the first token, where that has a time of its own, else until the end."""
        if self.first < self.ends:
            self._set(self.first, f"the first token did not come within {self._first_seconds:g} s")
        else:
            self.relax()

    def relax(self) -> None:
        """Let only the end count from now on: the first token is there."""
        if self._timer is None or self.first < self.ends:
            self._set(self.ends, f"the answer was not finished within {self._seconds:g} s")

    def abort(self, error: EngineError) -> None:
        """End the generation: the wait in flight, or else the next one, raises `error`."""
        if self._error is None:
            self._error = error
            if self._waiter is not None:
                self._waiter.cancel()

    async def wait(self, work: Awaitable[T]) -> T:
        """Return what `work` returns, the next event as a rule; raise the error that `abort` was given."""
        if self._error is not None:
            if asyncio.iscoroutine(work):
                work.close()
            raise self._error
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        # Told its loop, it need not find that out: a system call, and that for each event.
        waiter = self._waiter = asyncio.current_task(self._loop)
        try:
            return await work
        except asyncio.CancelledError:
            # Ours, unless the task was cancelled from elsewhere too.
            if self._error is not None and waiter is not None and waiter.uncancel() == 0:
                raise self._error from None
            raise
        finally:
            self._waiter = waiter = None  # a task that ends with an error keeps it, and its traceback keeps this frame

    def _set(self, moment: float, message: str) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        # The loop may have a clock of its own.
        delay = moment - time.monotonic()
        self._timer = loop.call_later(delay, self.abort, DeadlineExceeded(message))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def least(asked: float | None, most: float) -> float:
    """Return the seconds that a client asks for, but no more than there may be."""
    return most if asked is None else min(asked, most)


def least_known(asked: float | None, most: float | None) -> float | None:
    """Do the same where there may be no limit at all."""
    return asked if most is None else least(asked, most)
