"""Answers that are made in the background: bounded in number, followed by any number of readers, ended at the drain.

Also known are those that are read elsewhere while their own clients wait.
"""

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import contextmanager

from msgspec import Struct

from gateway.engine import EngineError, GenerateEvent, Overloaded
from gateway.flow.tasks import Tasks


class Detached(Struct, frozen=True):
    """The first event of an answer in the background: it is going to be made."""


DETACHED = Detached()


class BackgroundAnswer:
    """One answer that is made whether or not a client waits: its events up to now, and the error that ended it.

    One that is `is_unwanted` before it is in flight is not made at all.
    """

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.events: list[GenerateEvent] = []
        self.error: EngineError | None = None
        self.is_over = self.is_unwanted = False
        self._more = asyncio.Event()

    def add(self, event: GenerateEvent) -> None:
        """Tell the readers of one more event."""
        self.events.append(event)
        self._more.set()

    def end(self, error: EngineError | None) -> None:
        """Tell the readers that nothing more comes."""
        self.error, self.is_over = error, True
        self._more.set()

    async def follow(self) -> AsyncGenerator[object, None]:
        """Yield `Detached` and all its events, from the first one to its end; raise the error that ended it."""
        yield DETACHED
        at = 0
        while True:
            while at < len(self.events):
                yield self.events[at]
                at += 1
            if self.is_over:
                break
            self._more.clear()
            await self._more.wait()
        if self.error is not None:
            raise copy.copy(self.error)  # each reader has its own traceback


class Background:
    """The answers that are made in the background, by owner and id.

    `most` tells how many there may be at once, and `most_each` how many of one owner; callers without a key are one
    owner without a name, which has no bound of its own.
    """

    def __init__(self, most: Callable[[], int], most_each: Callable[[], int]) -> None:
        self._most = most
        self._most_each = most_each
        self._answers: dict[tuple[str, str], BackgroundAnswer] = {}
        self._attended: set[tuple[str, str]] = set()
        self._tasks = Tasks()

    @property
    def count(self) -> int:
        """How many are made at the moment."""
        return len(self._answers)

    def reserve(self, owner: str, identity: str, request_id: str) -> BackgroundAnswer:
        """Take the room for one more answer, for `start` or `release`; raise `Overloaded`."""
        if self.count >= self._most():
            raise Overloaded(f"{self._most()} answers are made in the background already; that is the most at once")
        own = sum(1 for each, _ in self._answers if each == owner)
        if owner and own >= self._most_each():
            raise Overloaded(f"{own} answers are made in the background for this key already; that is the most at once")
        answer = self._answers[owner, identity] = BackgroundAnswer(request_id)
        return answer

    def start(self, owner: str, identity: str, work: Coroutine[None, None, None]) -> None:
        """Run the work of a reserved answer, which gives its room back at its end."""
        task = self._tasks.start(work)
        task.add_done_callback(lambda _: self.release(owner, identity))

    def release(self, owner: str, identity: str) -> None:
        """Give the room of an answer back."""
        self._answers.pop((owner, identity), None)

    def find(self, owner: str, identity: str) -> BackgroundAnswer | None:
        """Find an answer that is being made."""
        return self._answers.get((owner, identity))

    @contextmanager
    def attend(self, owner: str, identity: str) -> Generator[None, None, None]:
        """Know of an answer that is made while its client waits."""
        self._attended.add((owner, identity))
        try:
            yield
        finally:
            self._attended.discard((owner, identity))

    def is_made(self, owner: str, identity: str) -> bool:
        """Tell whether an answer is being made, whether or not a client waits for it."""
        return (owner, identity) in self._answers or (owner, identity) in self._attended

    async def wait(self) -> None:
        """Wait until all have ended."""
        await self._tasks.wait()

    async def aclose(self) -> None:
        """End all, and wait until that is stored."""
        await self._tasks.end()
