"""Large answers on their way out: in pieces, as fast as they are read, and within one budget for all connections.

Granian takes a whole body at once, however long its client reads nothing, but waits with a piece until the one before
has left. What the kernel holds for a connection, and for how long, `gateway.supervisor.listener` bounds.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar.types import Send

from gateway.api.http.large_bodies import turns
from gateway.flow.budget import ByteBudget
from gateway.flow.offload import LARGE

# Bytes; of each connection granian holds two pieces, and hyper's own buffer as much again.
PIECE = 16 * 1024
_IN_HAND = 4 * PIECE


class Outgoing:
    """What large answers hold until they are sent; the same bytes object, sent to many, counts once."""

    def __init__(self, limit: int) -> None:
        self.budget = ByteBudget(limit)
        self._senders: Counter[int] = Counter()

    async def send(self, send: Send, body: bytes, stall_seconds: float, *, more_body: bool) -> None:
        """Send a body; raise `TimeoutError` where its turn does not come, or its client reads nothing, for so long."""
        is_large = len(body) > LARGE
        async with self._hold(body, stall_seconds):
            for start in range(0, len(body), PIECE):
                has_more = more_body or start + PIECE < len(body)
                piece = body[start : start + PIECE]
                if is_large:
                    turns.spend(len(piece))
                async with asyncio.timeout(stall_seconds):
                    await send({"type": "http.response.body", "body": piece, "more_body": has_more})

    @asynccontextmanager
    async def _hold(self, body: bytes, seconds: float) -> AsyncGenerator[None, None]:
        name = id(body)
        own = _IN_HAND + (0 if self._senders[name] else len(body))
        self._senders[name] += 1
        try:
            async with asyncio.timeout(seconds):
                await self.budget.take(own)
            try:
                yield
            finally:
                self.budget.give_back(own)
        finally:
            self._senders[name] -= 1
            if not self._senders[name]:
                del self._senders[name]
