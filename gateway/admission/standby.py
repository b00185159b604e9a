"""Work that stands by: it runs in places that no client's request wants, and gives way as soon as one comes.

A device computes slower for one request while it computes for others, too. So what counts is not whether a place is
free, but whether any client's request waits or runs on the device; a moment of quiet comes before the next piece of
work, for a client that sends one request after another leaves gaps between them.

An engine may put work aside by itself while requests of its own batch are there, and go on with it in the gaps. Then
only requests of other batches on the same device end it, for its engine does not see those.
"""

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from gateway.admission.moves import Moves
from gateway.admission.waiter import Standby, Waiter
from gateway.engine import Overloaded


class NoRoom(Overloaded):
    """A client's request has the place, or wants it: work that stands by begins later."""


class _Piece(NamedTuple):
    """A piece of work that has begun; `batch` names the one whose engine puts it aside by itself, if it does."""

    work: Standby
    batch: str

    def is_put_aside_for(self, batch: str) -> bool:
        """Tell whether its engine puts it aside for requests of a batch."""
        return bool(self.batch) and self.batch == batch


class Idleness:
    """Which clients' requests wait or run on one device, and the work that stands by and runs there meanwhile."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: set[Waiter] = set()
        self._left = -math.inf
        self._standing: dict[Waiter, _Piece] = {}
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

    def come(self, request: Waiter, batch: str) -> None:
        """Take note of a client's request in a batch; work gives way to it that its engine does not put aside.

        Of that, `beside` pieces stay, those that began first.
        """
        self._requests.add(request)
        if self._standing:
            for number, (waiter, piece) in enumerate(list(self._standing.items())):
                if number >= piece.work.beside and not piece.is_put_aside_for(batch):
                    self._give_way(waiter)

    def want(self, batch: str) -> None:
        """Have all work give way that may be in the way of a client's request that waits for a place in a batch."""
        for waiter, piece in list(self._standing.items()):
            if not piece.is_put_aside_for(batch):
                self._give_way(waiter)

    def begin(self, waiter: Waiter, work: Standby, batch: str = "") -> None:
        """Take note of a piece of work that has its place, or is with the engine of a batch, which puts it aside."""
        self._standing[waiter] = _Piece(work, batch)

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
        piece = self._standing.pop(waiter)
        self._leaving.add(waiter)
        piece.work.give_way()

    def _wait(self, work: Standby) -> float:
        """Return the seconds until the device counts as quiet: none where it does, no end where requests are there."""
        return math.inf if self._requests else max(0.0, self._left + work.quiet_seconds - self._clock())
