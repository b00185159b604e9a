"""The queue of one model: requests wait here for a place in its batch."""

import asyncio
import math
from collections.abc import Callable

from gateway.admission import cost
from gateway.admission.estimator import WaitEstimator
from gateway.admission.fair_queue import FairQueue
from gateway.admission.moves import Moves
from gateway.admission.places import Places
from gateway.admission.recent_callers import RecentCallers
from gateway.admission.settings import AdmissionSettings
from gateway.admission.standby import Idleness
from gateway.admission.waiter import QueuePosition, QueueTimeout, Waiter, WaiterState
from gateway.engine import DeadlineExceeded, EngineError, GenerateRequest, ModelCard, Overloaded, Unavailable
from gateway.flow.breaker import Attempt, Breaker

# Seconds; clients give up on longer waits rather than keep them.
_LONGEST_RETRY = 60.0
LEFT_ALONE = "the engine failed again and again; it is left alone for a while"


class ModelQueue:
    """Admits as many requests at once as the model has places and cache for, in the order of the fair queue.

    The head waits for its tokens, and no other request passes it: a large one is not passed over for ever. The states
    of a request are drawn in `waiter.py`.
    """

    def __init__(self, card: ModelCard, clock: Callable[[], float], settings: AdmissionSettings) -> None:
        self.breaker = Breaker(clock, longest=_LONGEST_RETRY)
        self.estimator = WaitEstimator()
        self.places = Places()
        self.idleness = Idleness(clock)
        self.clock = clock
        self._recent = RecentCallers()
        self.waiters: FairQueue[Waiter] = FairQueue(0)
        self._positions: dict[Waiter, tuple[int, int]] | None = None
        self.moves = Moves()
        self._retry: asyncio.TimerHandle | None = None
        self.configure(card, settings)

    @property
    def waiting(self) -> int:
        """The number of waiters."""
        return len(self.waiters)

    @property
    def load(self) -> tuple[float, float]:
        """How busy the model is: the predicted wait in seconds, and its requests for each of its places."""
        share = (self.places.running + self.waiting) / max(self.places.total, 1)
        if not self.waiting and self.places.running < self.places.total and not self.breaker.wait:
            return 0.0, share
        wait = self.estimator.wait(sum(waiter.cost for waiter in self.waiters.order()), self.places.running)
        return max(share if wait is None else wait, self.breaker.wait), share

    def configure(self, card: ModelCard, settings: AdmissionSettings) -> None:
        """Go by `card` and `settings` from now on: a model that was loaded again may have other places."""
        self.card, self.batch, self._settings = card, card.batch, settings
        self.places.resize(card.places, card.cache_tokens, settings.spare_places)
        self.waiters.capacity = self.places.total * settings.waiters_per_place

    def bound(self, request: GenerateRequest, answers: int = 1) -> int:
        """Bound the tokens that so many answers to `request` may take, which share its prompt."""
        first = self._cost(request, cost.prompt_bound(request.prompt))
        return first if answers == 1 else first + (answers - 1) * min(self._cost(request, 0), first)

    def join(self, waiter: Waiter) -> asyncio.Future[EngineError | None] | None:
        """Admit `waiter` at once, or return the future that its wait ends with; raise where it must or need not wait.

        The future's result is `None` once it is admitted, or the error that it is refused with.
        """
        if waiter.state is not WaiterState.OUTSIDE:
            raise RuntimeError("a permit is entered once")
        waiter.joined = now = self.clock()
        self.idleness.come(waiter, self.batch)
        displaced = self._push(waiter, now)
        if displaced is not None:
            displaced.leave(overloaded(self, "too many requests are waiting, most of them yours", displaced))
        self._announce()
        self._serve()
        if waiter.held:
            return None
        if not waiter.is_waiting:  # its time was over when the queue was served, or it has another engine
            now = self.clock()
            raise _too_late(waiter, now) if waiter.limits.place <= now else left_alone(self.breaker)
        self.idleness.want(self.batch)
        loop = asyncio.get_running_loop()
        waiter.turn = loop.create_future()
        if waiter.limits.place < math.inf:
            waiter.timer = loop.call_later(waiter.limits.place - now, self._expire, waiter)
        return waiter.turn

    def settle(self, waiter: Waiter, prompt_tokens: int | None) -> None:
        """Hold no more than a prompt of `prompt_tokens` and its answer need; all of it where the length is unknown."""
        if waiter.state is WaiterState.HELD:
            if waiter.limits.standby is None:
                self.estimator.start(self.clock() - waiter.admitted)
            exact = waiter.held if prompt_tokens is None else self._cost(waiter.request, prompt_tokens)
            self.places.adjust(exact - waiter.held)
            waiter.settle(exact)
            self._serve()

    def leave(self, waiter: Waiter) -> None:
        """Take back what `waiter` holds, or its position in the queue."""
        if waiter.state is WaiterState.WAITING:
            self.waiters.remove(waiter)
        elif waiter.held:
            self.places.give_back(waiter.caller, waiter.held)
            if waiter.state is WaiterState.SETTLED and waiter.limits.standby is None:
                self.estimator.finish(self.clock() - waiter.admitted, waiter.cost)
        waiter.leave()
        self.idleness.go(waiter)
        self._serve()
        self._announce()

    def position(self, waiter: Waiter) -> QueuePosition:
        """Return the position of `waiter`, which waits; all are computed at once, and kept until the queue moves."""
        if self._positions is None:
            self._positions = self.waiters.positions()
        position, ahead = self._positions[waiter]
        return QueuePosition(position, self.estimator.wait(ahead, self.places.running))

    def _push(self, waiter: Waiter, now: float) -> Waiter | None:
        """Let `waiter` wait, or refuse it; return the waiter that it displaces from a full queue."""
        try:
            self.check_breaker(waiter)
            self._recent.note(waiter.caller, now)
            self.check_limits(waiter, now)
            displaced = self.waiters.push(waiter)
            if displaced is waiter:
                raise overloaded(self, "too many requests are waiting", waiter)
        except EngineError:
            waiter.leave()
            raise
        waiter.state = WaiterState.WAITING
        return displaced

    def check_breaker(self, waiter: Waiter) -> None:
        """Refuse a request while the engine is left alone."""
        if self.breaker.wait or not (waiter.limits.is_patient or self.breaker.is_free):
            raise left_alone(self.breaker)

    def check_limits(self, waiter: Waiter, now: float) -> None:
        """Refuse a request that would wait in vain; where a place is free, it is admitted and measured anew."""
        if waiter.limits.place <= now:
            raise _too_late(waiter, now)
        if not self.waiting and (self.fits(waiter, now) or self.idleness.is_giving_way):
            return
        wait = self.estimator.wait(self.waiters.ahead(waiter), self.places.running)
        if wait is not None and now + wait + (self.estimator.first_seconds or 0.0) > waiter.limits.first_token:
            left = waiter.limits.first_token - now
            what = f"the first token would come in about {wait:.1f} s, and the request has {left:.1f} s for it"
            raise overloaded(self, what, waiter)

    def _serve(self) -> None:
        """Admit from the head of the queue; a waiter whose limit has passed expires, and is never computed."""
        if not self.waiters:  # at the end of most requests
            return
        now = self.clock()
        while (head := self._next(now)) is not None:
            if head.limits.place <= now:
                self._expire(head)
            elif not self.fits(head, now) or (attempt := self._attempt()) is None:
                return
            else:
                self.waiters.take(head)
                self.places.take(head.caller, head.cost)
                self._announce()  # first, so that the clients behind are told before this one may have left again
                head.admit(attempt, now)

    def _next(self, now: float) -> Waiter | None:
        """Find the next to be admitted: the head, or where only the spare places are left for it, one behind it."""
        head = self.waiters.head()
        if head is None or not self._is_kept_from_spare(head, now):
            return head
        if self.waiters.count(head.caller) == len(self.waiters):
            return None
        return next((waiter for waiter in self.waiters.order() if not self._is_kept_from_spare(waiter, now)), None)

    def fits(self, waiter: Waiter, now: float) -> bool:
        """Tell whether a waiter would have a place at once, were it the only one."""
        return self.places.fits(waiter.cost) and not self._is_kept_from_spare(waiter, now)

    def _is_kept_from_spare(self, waiter: Waiter, now: float) -> bool:
        """Tell whether only the spare places are left for this caller, and others may come for them."""
        return self.places.is_at_spare(waiter.caller) and self._recent.has_other(waiter.caller, now)

    def _attempt(self) -> Attempt | None:
        """Ask the breaker; where it is open, serve again when it may be tried, but those that may go elsewhere."""
        attempt = self.breaker.attempt()
        if attempt is None:
            self._dismiss()
        if attempt is None and (wait := self.breaker.wait) and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(wait, self._serve_again)
        return attempt

    def _dismiss(self) -> None:
        """Let those that have another engine go there: this one is left alone, or tried by one request."""
        for waiter in [waiter for waiter in self.waiters.order() if not waiter.limits.is_patient]:
            self.waiters.remove(waiter)
            waiter.leave(left_alone(self.breaker))
            self._announce()

    def _serve_again(self) -> None:
        self._retry = None
        self._serve()

    def _expire(self, waiter: Waiter) -> None:
        seconds = self.clock() - waiter.joined
        self.waiters.remove(waiter)
        waiter.leave(QueueTimeout(f"no place came free within {seconds:.1f} s", retry_after=_retry_after(self, waiter)))
        self._announce()

    def _announce(self) -> None:
        """Wake the clients that watch the queue: it has moved."""
        self._positions = None
        self.moves.tell()

    def _cost(self, request: GenerateRequest, prompt_tokens: int) -> int:
        return cost.cost(request, self.card, prompt_tokens, self._settings.unstated_tokens)


def overloaded(queue: ModelQueue, what: str, waiter: Waiter) -> Overloaded:
    """Make the refusal of a waiter."""
    return Overloaded(what, retry_after=_retry_after(queue, waiter))


def _retry_after(queue: ModelQueue, waiter: Waiter) -> float:
    """Estimate when the queue as it stands would have admitted `waiter`."""
    wait = queue.estimator.wait(queue.waiters.ahead(waiter), queue.places.running)
    return 1.0 if wait is None else min(max(wait, 1.0), _LONGEST_RETRY)


def left_alone(breaker: Breaker) -> Unavailable:
    """Make the error of a model that is left alone."""
    return Unavailable(LEFT_ALONE, retry_after=breaker.wait or 1.0)


def _too_late(waiter: Waiter, now: float) -> EngineError:
    """Name the time that was over before a waiter had waited at all."""
    if waiter.limits.first_token <= now:
        return DeadlineExceeded("the time of the request was over before it could wait for a place")
    return QueueTimeout("the time to wait for a place was over before the wait began")
