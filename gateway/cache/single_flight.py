"""One generation with many followers, each from its beginning and at its own pace (single flight)."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from gateway.cache.store import KeptAnswer
from gateway.engine import Delta, Draining, EngineError, Finished, GenerateEvent, Started, ToolDelta, Usage
from gateway.flow.tasks import is_cancelled
from gateway.flow.work import Work

# Begins a generation, and takes note of what it makes the engine do.
StartAnswer = Callable[[Work], AsyncGenerator[GenerateEvent, None]]
Find = Callable[[], Awaitable[KeptAnswer | None]]


class Flight:
    """The events so far. `is_told` once the last one is there, `is_over` once nothing more comes, not even an error.

    `is_kept` says whether they were found, not made; `None` until that is known.
    """

    def __init__(self) -> None:
        self.log: list[GenerateEvent] = []
        self.error: Exception | None = None
        self.is_kept: bool | None = None
        self.is_told = False
        self.is_over = False
        self.followers = 0
        self.work = Work()
        self._is_charged = False
        self._waiting: list[asyncio.Future[None]] = []

    async def fly(self, find: Find, generate: StartAnswer) -> None:
        """Find the events, or read the generation to its end; an error is for the followers."""
        try:
            kept = await find()
            self.is_kept = kept is not None
            self._wake()
            if kept is None:
                await self._read(generate)
            else:
                self.work.trace = kept.trace
                self.log.extend(kept.events)
                self.is_told = True
        except asyncio.CancelledError:
            self.error = Draining("the answer is not made any more")
            if is_cancelled():
                raise
            self.error = EngineError("the engine cancelled the generation")
        except Exception as error:  # noqa: BLE001 - raised where it is read
            self.error = _twin(error)
        finally:
            self.is_over = True
            self._wake()

    @property
    def usage(self) -> Usage:
        """The tokens used up to now; a prompt of 0 tokens is one whose length is not known."""
        log = self.log
        if log and isinstance(log[-1], Finished):
            return log[-1].usage
        answer = sum(event.tokens for event in log if isinstance(event, Delta | ToolDelta))
        if log and isinstance(log[0], Started):
            return Usage(log[0].prompt_tokens or 0, answer, log[0].cached_tokens)
        return Usage(0, answer)

    def charge(self) -> bool:
        """Tell whether a follower that leaves now pays for the generation; only one of them is told so.

        It is the first that leaves a whole answer, or the last of those that leave before.
        """
        if self._is_charged or self.is_kept or (self.followers and not (self.is_told or self.is_over)):
            return False
        self._is_charged = True
        return True

    async def settled(self) -> None:
        """Wait until it is known whether the events were found."""
        while self.is_kept is None and not self.is_over:
            await self._news()

    async def follow(self) -> AsyncGenerator[GenerateEvent, None]:
        """Yield all events from the first, at the reader's pace."""
        log, read = self.log, 0
        while True:
            while read < len(log):
                yield log[read]
                read += 1
            if self.is_over:
                break
            await self._news()
        if self.error is not None:
            raise _twin(self.error)

    async def _read(self, generate: StartAnswer) -> None:
        async with aclosing(generate(self.work)) as events:
            async for event in events:
                self.log.append(event)
                if type(event) is Finished:
                    self.is_told = True
                if self._waiting:
                    self._wake()

    async def _news(self) -> None:
        """Wait until there is another event, or the end."""
        reader = asyncio.get_running_loop().create_future()
        self._waiting.append(reader)
        await reader

    def _wake(self) -> None:
        for reader in self._waiting:
            if not reader.done():
                reader.set_result(None)
        self._waiting.clear()


def _twin(error: Exception) -> Exception:
    """Copy an error without its traceback for one reader: each dialect rewords its own, and has frames of its own."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__ |= error.__dict__
    twin.__cause__ = error.__cause__
    return twin
