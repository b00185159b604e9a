"""A budget of bytes: holders take parts of it, and wait in the order of their coming while it is used up."""

import asyncio
from collections import deque


class ByteBudget:
    """`limit` bytes, of which `held` are taken; a part larger than all of it is had once nothing else is held."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, amount: int) -> None:
        """Take `amount` bytes, at once or in turn; cancelled while it waits, it has taken nothing."""
        if not self._waiting and self._has(amount):
            self.held += amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, amount))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(amount)
            else:
                self._serve()  # those behind may fit
            raise

    def give_back(self, amount: int) -> None:
        """Give back what was taken."""
        self.held -= amount
        self._serve()

    def _has(self, amount: int) -> bool:
        return not self.held or self.held + amount <= self.limit

    def _serve(self) -> None:
        while self._waiting:
            turn, amount = self._waiting[0]
            if not turn.done():
                if not self._has(amount):
                    return
                self.held += amount
                turn.set_result(None)
            self._waiting.popleft()
