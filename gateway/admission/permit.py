"""The only way to hold a place: an `async with` object, which gives it back however the block ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from gateway.admission.foresee import foresee
from gateway.admission.queue import LEFT_ALONE, ModelQueue
from gateway.admission.standby import NoRoom
from gateway.admission.waiter import Foresight, QueuePosition, Standby, Waiter, WaiterState, WaitLimits
from gateway.engine import GenerateRequest, Started, Unavailable, UpstreamFailed


class Permit:
    """A place and its tokens, while it is entered, once."""

    def __init__(
        self, queue: ModelQueue, request: GenerateRequest, caller: str, limits: WaitLimits, cost: int | None = None
    ) -> None:
        self._queue = queue
        self._is_entered = False
        self._waiter = Waiter(
            request=request,
            caller=caller,
            priority=request.priority,
            cost=queue.bound(request) if cost is None else cost,
            limits=limits,
        )

    async def __aenter__(self) -> Self:
        if self._is_entered:
            self._is_entered = False
            return self
        try:
            await self._enter()
        except BaseException:
            self._queue.leave(self._waiter)
            raise
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        # What a caller, a single request or a restart is to blame for says nothing of the server behind the engine.
        if self._waiter.attempt is not None:
            if isinstance(error, UpstreamFailed):
                self._waiter.attempt.fail()
            elif self.is_settled:
                self._waiter.attempt.succeed()
        self._queue.leave(self._waiter)

    @property
    def is_held(self) -> bool:
        """Whether it has its place."""
        return self._waiter.held > 0

    @property
    def is_settled(self) -> bool:
        """Whether its answer has begun, and it still has its place."""
        return self._waiter.state is WaiterState.SETTLED

    @property
    def cost(self) -> int:
        """The bound of its tokens, prompt and answer."""
        return self._waiter.cost

    @property
    def waited(self) -> float:
        """Seconds from joining to getting the place; NaN before."""
        return self._waiter.admitted - self._waiter.joined

    @property
    def position(self) -> QueuePosition | None:
        """Its position in the queue; `None` when it does not wait."""
        return self._queue.position(self._waiter) if self._waiter.state is WaiterState.WAITING else None

    def foresee(self) -> Foresight:
        """Say what would become of it, were it entered now."""
        return foresee(self._queue, self._waiter)

    def settle(self, started: Started) -> None:
        """Give back what was reserved beyond the prompt's true length, where it is known; call it at `Started`."""
        # What takes no place has reserved nothing.
        self._queue.settle(self._waiter, started.prompt_tokens if self.is_held else None)

    async def positions(self) -> AsyncGenerator[QueuePosition, None]:
        """Wait for the place, and yield the position now and whenever it changes; then enter the permit."""
        entering = asyncio.create_task(self.__aenter__())
        try:
            async with aclosing(self.updates()) as updates:
                async for position in updates:
                    yield position
            await entering
            self._is_entered = True
        except BaseException:
            entering.cancel()
            await asyncio.wait({entering})
            self._queue.leave(self._waiter)
            raise

    async def updates(self) -> AsyncGenerator[QueuePosition, None]:
        """Yield the position now and whenever it changes, until the permit has its place or is left."""
        last: int | None = None
        while self._waiter.state in (WaiterState.OUTSIDE, WaiterState.WAITING):
            moved = self._queue.moves.next
            position = self.position
            if position is not None and position.position != last:
                last = position.position
                yield position
            await moved.wait()

    async def _enter(self) -> None:
        if (work := self._waiter.limits.standby) is not None:
            await _stand_by(self._queue, self._waiter, work)
            return
        turn = self._queue.join(self._waiter)
        if turn is not None and (error := await turn) is not None:
            try:
                raise error
            finally:
                del turn, error  # its traceback holds this frame


async def _stand_by(queue: ModelQueue, waiter: Waiter, work: Standby) -> None:
    """Wait for a place that no request wants, with its tokens; raise `NoRoom` as soon as a request does."""
    waiter.joined = queue.clock()
    while not _begin(queue, waiter, work):
        await queue.moves.next.wait()


def _begin(queue: ModelQueue, waiter: Waiter, work: Standby) -> bool:
    """Let work that stands by begin; return whether there was a place, or none is needed."""
    if queue.waiting or not queue.idleness.may_begin(work):
        raise NoRoom("a request of a client has the place, or wants it")
    is_put_aside = bool(queue.batch) and work.is_put_aside(queue.card)
    if not is_put_aside and not queue.places.fits(waiter.cost):
        return False
    attempt = queue.breaker.attempt()
    if attempt is None:
        raise Unavailable(LEFT_ALONE, retry_after=queue.breaker.wait or 1.0)
    if is_put_aside:
        waiter.cost = 0
        queue.idleness.begin(waiter, work, queue.batch)
    else:
        queue.places.take(waiter.caller, waiter.cost)
        queue.idleness.begin(waiter, work)
    waiter.admit(attempt, queue.clock())
    return True
