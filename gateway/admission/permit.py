"""The only way to hold a place: an `async with` object, which gives it back however the block ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from gateway.admission.queue import ModelQueue
from gateway.admission.waiter import QueuePosition, Waiter, WaitLimits
from gateway.engine import GenerateRequest, Started, UpstreamFailed


class Permit:
    """A place and its tokens, while it is entered, once."""

    def __init__(self, door: ModelQueue, request: GenerateRequest, caller: str, patience: WaitLimits) -> None:
        self._door = door
        self._is_over = False
        self._is_entered = False
        self._ticket = Waiter(
            request=request, caller=caller, priority=request.priority, cost=door.bound(request), patience=patience
        )

    async def __aenter__(self) -> Self:
        if self._is_entered:
            self._is_entered = False
            return self
        try:
            await self._enter()
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        # What a caller, a single request or a restart is to blame for says nothing of the server behind the engine.
        if isinstance(error, UpstreamFailed) and self._ticket.attempt is not None:
            self._ticket.attempt.fail()
        self._leave()

    @property
    def is_held(self) -> bool:
        """Whether it has its place."""
        return self._ticket.held > 0

    @property
    def cost(self) -> int:
        """The bound of its tokens, prompt and answer."""
        return self._ticket.cost

    @property
    def waited(self) -> float:
        """Seconds from joining to getting the place; NaN before."""
        return self._ticket.granted - self._ticket.joined

    @property
    def standing(self) -> QueuePosition | None:
        """Where it stands in the line; `None` when it does not wait."""
        return self._door.position(self._ticket) if self._ticket.is_waiting else None

    def settle(self, started: Started) -> None:
        """Give back what was reserved beyond the prompt's true length; call it at `Started`."""
        self._door.settle(self._ticket, started.prompt_tokens)

    async def updates(self) -> AsyncGenerator[QueuePosition, None]:
        """Yield where it stands, now and whenever that changes, until it has a place or has left."""
        told: int | None = None
        while not self._is_over and not self.is_held:
            moved = self._door.moved
            standing = self.standing
            if standing is not None and standing.position != told:
                told = standing.position
                yield standing
            await moved.wait()

    async def line(self) -> AsyncGenerator[QueuePosition, None]:
        """Wait for the place, and yield where it stands meanwhile; when this has ended by itself, enter the permit."""
        entering = asyncio.create_task(self.__aenter__())
        try:
            async with aclosing(self.updates()) as updates:
                async for standing in updates:
                    yield standing
            await entering
            self._is_entered = True
        except BaseException:
            entering.cancel()
            await asyncio.wait({entering})
            self._leave()
            raise

    async def _enter(self) -> None:
        turn = self._door.join(self._ticket)
        if turn is not None and (error := await turn) is not None:
            raise error

    def _leave(self) -> None:
        self._is_over = True
        self._door.leave(self._ticket)
