"""What is known of one request that wants in: what it asks for, how long it waits, and what it holds."""

import asyncio
import math

from msgspec import Struct

from gateway.engine import EngineError, GenerateRequest, Overloaded
from gateway.flow.breaker import Attempt


class QueueTimeout(Overloaded):
    """The caller's time ran out in the line, before anything was computed."""

    code = "queue_timeout"


class WaitLimits(Struct, frozen=True, kw_only=True):
    """Until when a caller waits for a place, and for the first token, on the clock of the admission."""

    place: float = math.inf
    first_token: float = math.inf


class QueuePosition(Struct, frozen=True):
    """Where a waiter stands: 1 is next; `eta` is the seconds until its place, `None` before anything was measured."""

    position: int
    eta: float | None


class Waiter(Struct, eq=False, kw_only=True):
    """One request before a door: `cost` bounds its tokens, `held` is what is set aside for it inside."""

    request: GenerateRequest
    caller: str
    priority: int
    cost: int
    patience: WaitLimits
    held: int = 0
    joined: float = math.nan
    granted: float = math.nan
    is_settled: bool = False
    attempt: Attempt | None = None
    timer: asyncio.TimerHandle | None = None
    turn: asyncio.Future[EngineError | None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it stands in the line, and nobody has given up on it."""
        return self.turn is not None and not self.turn.done()

    def tell(self, error: EngineError | None) -> None:
        """End its waiting: with its place, or with why it gets none."""
        if self.timer is not None:
            self.timer.cancel()
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(error)
