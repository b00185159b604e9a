"""One request on its way through a model's queue, and the states that it passes.

    OUTSIDE --join--> WAITING --admit--> HELD --settle--> SETTLED
       |                 |                 |                 |
   refuse,       expire, displace,       leave             leave
    leave              leave               |                 |
       |                 |                 |                 |
       +-----------------+----> LEFT <-----+-----------------+

A waiter joins when its permit is entered, is admitted when a place and its tokens are free, and is settled at
`Started`, when the length of its prompt is known. It leaves when the permit is left: with its answer, an error or a
cancel. A full queue, an open breaker or a limit too short for the wait refuse it. In the queue it expires with its
limit, and a caller with fewer waiters displaces it where the queue is full.
"""

import asyncio
import math
from collections.abc import Callable
from enum import Enum, auto
from typing import final

from msgspec import Struct

from gateway.engine import Capability, EngineError, GenerateRequest, ModelCard, Overloaded
from gateway.flow.breaker import Attempt


class QueueTimeout(Overloaded):
    """The caller's time ran out in the queue, before anything was computed."""

    code = "queue_timeout"


class Standby(Struct, frozen=True, eq=False, kw_only=True):
    """How work that no client waits for gives way to what one does wait for.

    It begins once no request was there for `quiet_seconds`, and calls `give_way` as soon as one comes, which is to end
    it soon; `beside` pieces of such work stay while requests only run, and none while one waits for a place. Where the
    engine puts it aside by itself, requests of the same batch do not end it: it waits there, and takes no place.
    """

    give_way: Callable[[], None]
    quiet_seconds: float = 0.0
    beside: int = 0

    def is_put_aside(self, card: ModelCard) -> bool:
        """Tell whether a model's engine computes it only while it has nothing else to do."""
        return not self.beside and Capability.STANDBY in card.capabilities


class WaitLimits(Struct, frozen=True, kw_only=True):
    """The moments until which a caller waits for a place and for the first token, on the clock of the admission.

    A caller that is not patient has another engine to go to: it waits for none that is left alone or away. One that
    stands by waits in no queue, and begins where no place is wanted.
    """

    place: float = math.inf
    first_token: float = math.inf
    is_patient: bool = True
    standby: Standby | None = None


@final
class QueuePosition(Struct, frozen=True):
    """A waiter's position: 1 is next; `eta` is the seconds until its place, `None` before anything was measured."""

    position: int
    eta: float | None


@final
class Foresight(Struct, frozen=True):
    """What would become of a waiter, were it to join now: its position, 0 where a place is free for it.

    `wait` and `first_token` are seconds from now, `None` before anything was measured. `refusal` is the error that it
    would get in place of all that.
    """

    position: int
    wait: float | None
    first_token: float | None
    refusal: EngineError | None = None


class WaiterState(Enum):
    """The states in the drawing above."""

    OUTSIDE = auto()
    WAITING = auto()
    HELD = auto()
    SETTLED = auto()
    LEFT = auto()


class Waiter(Struct, eq=False, kw_only=True):
    """A request and its state; `cost` bounds its tokens, and `held` of them are reserved while it has a place."""

    request: GenerateRequest
    caller: str
    priority: int
    cost: int
    limits: WaitLimits
    state: WaiterState = WaiterState.OUTSIDE
    held: int = 0
    joined: float = math.nan
    admitted: float = math.nan
    attempt: Attempt | None = None
    timer: asyncio.TimerHandle | None = None
    turn: asyncio.Future[EngineError | None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue."""
        return self.state is WaiterState.WAITING

    def admit(self, attempt: Attempt, now: float) -> None:
        """Give it its place, and end its wait."""
        self.state = WaiterState.HELD
        self.attempt, self.held, self.admitted = attempt, self.cost, now
        self._end_wait(None)

    def settle(self, exact: int) -> None:
        """Hold `exact` tokens from now on; the engine has begun to answer."""
        self.state, self.held = WaiterState.SETTLED, exact
        if self.attempt is not None:
            self.attempt.begin()

    def leave(self, error: EngineError | None = None) -> None:
        """Hold nothing from now on; a wait ends with `error`."""
        self.state, self.held = WaiterState.LEFT, 0
        if self.attempt is not None:
            self.attempt.give_up()
        self._end_wait(error)

    def _end_wait(self, error: EngineError | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(error)
        self.turn = None
