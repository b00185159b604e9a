"""Work that stands by: it runs in places that no client's request wants, and gives way as soon as one comes.

A device computes slower for one request while it computes for others, too. So what counts is not whether a place is
free, but whether any client's request waits or runs on the device; a moment of quiet comes before the next piece of
work, for a client that sends one request after another leaves gaps between them.
"""

import asyncio
import math
from collections.abc import Callable

from gateway.admission.moves import Moves
from gateway.admission.waiter import Standby, Waiter
from gateway.engine import Overloaded


class NoRoom(Overloaded):
    """A client's request has the place, or wants it: work that stands by begins later."""


class Idleness:
    """Which clients' requests wait or run on one device, and the work that stands by and runs there meanwhile."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: set[Waiter] = set()
        self._left = -math.inf
        self._standing: dict[Waiter, Standby] = {}
        self._leaving: set[Waiter] = set()
        self._moves = Moves()

    @property
    def is_giving_way(self) -> bool:
        """Whether a place comes free in a moment, as work was told to give way."""
        return bool(self._leaving)

    def may_begin(self, work: Standby) -> bool:
        """Tell whether a piece of work may begin: the device is quiet, or fewer than `beside` run there."""
        return len(self._standing) < work.beside or not self._wait(work)

    async def wait(self, work: Standby) -> None:
        """Wait until a piece of work may begin."""
        while not self.may_begin(work):
            left = self._wait(work)
            moved = self._moves.next
            if math.isinf(left):
                await moved.wait()
            else:
                await asyncio.sleep(left)

    def come(self, request: Waiter) -> None:
        """Take note of a client's request; work gives way to it, but for `beside` pieces, those that began first."""
        self._requests.add(request)
        if self._standing:
            for number, (waiter, work) in enumerate(list(self._standing.items())):
                if number >= work.beside:
                    self._give_way(waiter)

    def want(self) -> None:
        """Have all work give way: a client's request waits for a place."""
        for waiter in list(self._standing):
            self._give_way(waiter)

    def begin(self, waiter: Waiter, work: Standby) -> None:
        """Take note of a piece of work that has its place."""
        self._standing[waiter] = work

    def go(self, waiter: Waiter) -> None:
        """Take note that a request or a piece of work has left, if it was here."""
        if waiter in self._requests:
            self._requests.remove(waiter)
            self._left = self._clock()
        elif waiter.limits.standby is not None:
            self._standing.pop(waiter, None)
            self._leaving.discard(waiter)
        if not self._requests or self._standing:
            self._moves.tell()

    def _give_way(self, waiter: Waiter) -> None:
        work = self._standing.pop(waiter)
        self._leaving.add(waiter)
        work.give_way()

    def _wait(self, work: Standby) -> float:
        """Return the seconds until the device counts as quiet: none where it does, no end where requests are there."""
        return math.inf if self._requests else max(0.0, self._left + work.quiet_seconds - self._clock())
