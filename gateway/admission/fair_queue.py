"""A bounded queue, fair by caller: whatever the other callers send, each gets its share of the tokens.

Higher priority goes first. Within a priority, every caller has a queue of its own, and the queues take turns weighted
by tokens: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). It is as fair as deficit round robin, but has no
quantum: a caller that comes waits for one request of each other, not for as many as the largest one is long.
"""

import bisect
import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from gateway.admission.caller_counts import CallerCounts

# Callers whose queue is empty are forgotten beyond this many, as soon as they are owed no patience.
_REMEMBERED = 64


class Queued(Protocol):
    """An item of the queue: `cost` is in tokens, and 1 at least; a higher `priority` is served sooner."""

    caller: str
    priority: int
    cost: int


W = TypeVar("W", bound=Queued)


class _Queue(Generic[W]):
    """The waiters of one caller and priority. `start` of its head and `finish` of its last served are virtual times."""

    __slots__ = ("finish", "is_listed", "number", "start", "tokens", "waiters")

    def __init__(self) -> None:
        self.waiters: OrderedDict[W, None] = OrderedDict()
        self.tokens = 0
        self.start = 0
        self.finish = 0
        self.number = 0
        self.is_listed = False


class _Rank(Generic[W]):
    """The queues of one priority. Virtual time counts tokens: it is the start of the last waiter served."""

    def __init__(self) -> None:
        self.time = 0
        self.tokens = 0
        self.busy = 0
        self.queues: dict[str, _Queue[W]] = {}
        self._listed: list[tuple[int, int, _Queue[W]]] = []
        self._numbers = 0
        self._sweep_at = _REMEMBERED

    def add(self, waiter: W) -> None:
        queue = self.queues.setdefault(waiter.caller, _Queue())
        if not queue.waiters:
            self.busy += 1
        queue.waiters[waiter] = None
        queue.tokens += waiter.cost
        self.tokens += waiter.cost
        if not queue.is_listed:
            self._numbers += 1
            queue.start = max(self.time, queue.finish)
            queue.number = self._numbers
            queue.is_listed = True
            heapq.heappush(self._listed, (queue.start, queue.number, queue))

    def remove(self, waiter: W) -> None:
        """Take one out that will not be served: its caller is charged nothing. Its queue may stay listed, empty."""
        queue = self.queues[waiter.caller]
        del queue.waiters[waiter]
        queue.tokens -= waiter.cost
        self.tokens -= waiter.cost
        if not queue.waiters:
            self.busy -= 1

    def head(self) -> W:
        while not self._listed[0][2].waiters:
            heapq.heappop(self._listed)[2].is_listed = False
        return next(iter(self._listed[0][2].waiters))

    def pop(self) -> W:
        waiter = self.head()
        queue = self._listed[0][2]
        self.remove(waiter)
        self.time = queue.start
        queue.start = queue.finish = queue.start + waiter.cost
        if queue.waiters:
            heapq.heapreplace(self._listed, (queue.start, queue.number, queue))
        else:
            heapq.heappop(self._listed)
            queue.is_listed = False
            self._sweep()
        return waiter

    def order(self) -> Iterator[W]:
        """Play the turns through, as `pop` would take them."""
        turns = [(start, number, list(queue.waiters), 0) for start, number, queue in self._listed if queue.waiters]
        heapq.heapify(turns)
        while turns:
            start, number, waiters, at = turns[0]
            yield waiters[at]
            if at + 1 < len(waiters):
                heapq.heapreplace(turns, (start + waiters[at].cost, number, waiters, at + 1))
            else:
                heapq.heappop(turns)

    def _sweep(self) -> None:
        """Forget the callers that are gone and have had no more than their share."""
        if len(self.queues) > self._sweep_at:
            kept = {key: queue for key, queue in self.queues.items() if queue.is_listed or queue.finish > self.time}
            self.queues = kept
            self._sweep_at = 2 * len(kept) + _REMEMBERED


class FairQueue(Generic[W]):
    """Holds at most `capacity` waiters; everything but `order` takes logarithmic time at most."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._ranks: dict[int, _Rank[W]] = {}
        self._priorities: list[int] = []  # ascending
        self._counts = CallerCounts()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, waiter: W) -> W | None:
        """Add `waiter`; return the waiter that has no room then: `None`, `waiter` itself, or another, taken out.

        In a full queue the caller with the most waiters gives up its last one to a caller with fewer.
        """
        displaced = self._displaced(waiter) if self._length >= self.capacity else None
        if displaced is waiter:
            return waiter
        if displaced is not None:
            self.remove(displaced)
        if waiter.priority not in self._ranks:
            self._ranks[waiter.priority] = _Rank()
            bisect.insort(self._priorities, waiter.priority)
        self._ranks[waiter.priority].add(waiter)
        self._counts.add(waiter.caller)
        self._length += 1
        return displaced

    def has_room(self, newcomer: W) -> bool:
        """Tell whether `push` would take a waiter."""
        return self._length < self.capacity or self._displaced(newcomer) is not newcomer

    def head(self) -> W | None:
        """Return the next waiter to be served."""
        return self._ranks[self._priorities[-1]].head() if self._length else None

    def pop(self) -> W:
        """Serve the head: take it out and charge its caller; the queue must not be empty."""
        priority = self._priorities[-1]
        waiter = self._ranks[priority].pop()
        self._forget(waiter, priority)
        return waiter

    def take(self, waiter: W) -> None:
        """Serve `waiter`; one that is not the head costs its caller nothing, as its turn is still to come."""
        if waiter is self.head():
            self.pop()
        else:
            self.remove(waiter)

    def count(self, caller: str) -> int:
        """Count the waiters of `caller`."""
        return self._counts.count(caller)

    def remove(self, waiter: W) -> None:
        """Take out a waiter that will not be served."""
        self._ranks[waiter.priority].remove(waiter)
        self._forget(waiter, waiter.priority)

    def order(self) -> list[W]:
        """List all waiters in the order in which they would be served if no other came."""
        return [waiter for priority in reversed(self._priorities) for waiter in self._ranks[priority].order()]

    def positions(self) -> dict[W, tuple[int, int]]:
        """Return the numbers of all waiters in that order, from 1, each with the tokens of those before it."""
        found, ahead = dict[W, tuple[int, int]](), 0
        for position, waiter in enumerate(self.order(), 1):
            found[waiter] = position, ahead
            ahead += waiter.cost
        return found

    def ahead(self, newcomer: W) -> int:
        """Estimate the tokens that would be served before `newcomer`.

        All of higher priority, what its own caller has in its own, and of each other caller there as much again.
        """
        above = sum(self._ranks[priority].tokens for priority in self._priorities if priority > newcomer.priority)
        rank = self._ranks.get(newcomer.priority)
        if rank is None:
            return above
        own = rank.queues.get(newcomer.caller)
        mine = own.tokens if own else 0
        others = rank.busy - (mine > 0)
        return above + min(rank.tokens, mine + (mine + newcomer.cost) * others)

    def _displaced(self, newcomer: W) -> W:
        """Choose the waiter to drop: the last of the caller with the most, if it has more than `newcomer` would."""
        most = self._counts.most()
        if self._counts.count(most) > self._counts.count(newcomer.caller) + 1:
            return self._last(most) or newcomer
        last = self._last(newcomer.caller)
        return last if last is not None and last.priority < newcomer.priority else newcomer

    def _last(self, caller: str) -> W | None:
        """Find the newest waiter of the lowest priority that `caller` has here."""
        for priority in self._priorities:
            queue = self._ranks[priority].queues.get(caller)
            if queue and queue.waiters:
                return next(reversed(queue.waiters))
        return None

    def _forget(self, waiter: W, priority: int) -> None:
        self._counts.remove(waiter.caller)
        self._length -= 1
        if not self._ranks[priority].busy:
            del self._ranks[priority]
            self._priorities.remove(priority)
