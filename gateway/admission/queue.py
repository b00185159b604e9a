"""The door of one model: its places, its tokens, and the line before it."""

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable

from gateway.admission import cost
from gateway.admission.estimator import WaitEstimator
from gateway.admission.fair_queue import FairQueue
from gateway.admission.settings import AdmissionSettings
from gateway.admission.waiter import QueuePosition, QueueTimeout, Waiter
from gateway.engine import EngineError, GenerateRequest, ModelCard, Overloaded, Unavailable
from gateway.flow.breaker import Attempt, Breaker

# Seconds; clients give up on longer waits rather than keep them.
_LONGEST_RETRY = 60.0
# Seconds for which a caller that came is reckoned to come again.
_LATELY = 60.0
_SPARED_OF = 4


class ModelQueue:
    """Lets in as many at once as the model has places and cache for, in the order of the line.

    The head of the line waits for its tokens, and nobody overtakes it: a large request is not passed over for ever.
    """

    def __init__(self, card: ModelCard, clock: Callable[[], float], settings: AdmissionSettings) -> None:
        self.breaker = Breaker(clock)
        self.estimator = WaitEstimator()
        self.running = 0
        self.tokens = 0
        self._moved: asyncio.Event | None = None
        self._clock = clock
        self.settings = settings
        self._is_paused = False
        self._held: Counter[str] = Counter()
        self._callers: OrderedDict[str, float] = OrderedDict()
        self._waiting: set[Waiter] = set()
        self._standings: dict[Waiter, tuple[int, int]] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._line: FairQueue[Waiter] = FairQueue(0)
        self._card = card
        self.keep(card)

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._waiting)

    def keep(self, card: ModelCard) -> None:
        """Go by `card` and the settings of now: a model that was loaded again may have other places."""
        self._card = card
        self._line.capacity = max(card.places, 1) * self.settings.waiters_per_place

    @property
    def moved(self) -> asyncio.Event:
        """What is set when the line moves next; made for who looks, for most of the time nobody does."""
        if self._moved is None:
            self._moved = asyncio.Event()
        return self._moved

    def pause(self) -> None:
        """Let nobody in, as while the engine is started again; who waits goes on waiting."""
        self._is_paused = True

    def resume(self) -> None:
        """Let in again."""
        self._is_paused = False
        self._serve()

    def refuse_all(self, error: EngineError) -> None:
        """Send away all who wait, with `error`."""
        for ticket in list(self._waiting):
            self._dismiss(ticket, error)

    def bound(self, request: GenerateRequest) -> int:
        """Bound the tokens that `request` may take."""
        return cost.cost(request, self._card, cost.prompt_bound(request.prompt), self.settings.unstated_tokens)

    def join(self, ticket: Waiter) -> asyncio.Future[EngineError | None] | None:
        """Let `ticket` in, or into the line, whose end the future tells; raise where it cannot or need not wait."""
        if not math.isnan(ticket.joined):
            raise RuntimeError("a permit is entered once")
        ticket.joined = now = self._clock()
        if wait := self.breaker.wait:
            raise Unavailable("the engine failed again and again; it is left alone for a while", retry_after=wait)
        self._note_caller(ticket.caller, now)
        self._check_patience(ticket, now)
        outcast = self._line.push(ticket)
        if outcast is ticket:
            raise self._overloaded("too many requests are waiting", ticket)
        ticket.turn = asyncio.get_running_loop().create_future()
        self._waiting.add(ticket)
        self._announce()
        if outcast is not None:
            self._forget(outcast)
            outcast.tell(self._overloaded("too many requests are waiting, most of them yours", outcast))
        self._serve()
        if not ticket.is_waiting:
            return None
        if ticket.patience.place < math.inf:
            delay = ticket.patience.place - now
            ticket.timer = asyncio.get_running_loop().call_later(delay, self._expire, ticket)
        return ticket.turn

    def settle(self, ticket: Waiter, prompt_tokens: int) -> None:
        """Hold no more than a prompt of `prompt_tokens` and its answer need."""
        if ticket.held and not ticket.is_settled:
            ticket.is_settled = True
            self.estimator.start(self._clock() - ticket.granted)
            exact = cost.cost(ticket.request, self._card, prompt_tokens, self.settings.unstated_tokens)
            self.tokens += exact - ticket.held
            ticket.held = exact
            if ticket.attempt is not None:
                ticket.attempt.succeed()
            self._serve()

    def leave(self, ticket: Waiter) -> None:
        """Take back what `ticket` holds, or its place in the line."""
        if ticket.held:
            self.running -= 1
            self._held[ticket.caller] -= 1
            if not self._held[ticket.caller]:
                del self._held[ticket.caller]
            self.tokens -= ticket.held
            ticket.held = 0
            if ticket.is_settled:
                self.estimator.finish(self._clock() - ticket.granted, ticket.cost)
        elif ticket in self._waiting:
            self._line.remove(ticket)
            self._forget(ticket)
        if ticket.attempt is not None:
            ticket.attempt.give_up()
        ticket.tell(None)
        self._serve()
        self._announce()

    def position(self, ticket: Waiter) -> QueuePosition:
        """Say where one of the line stands; all are reckoned at once, and again only when the line has moved."""
        if self._standings is None:
            self._standings, ahead = {}, 0
            for position, waiter in enumerate(self._line.order(), 1):
                self._standings[waiter] = position, ahead
                ahead += waiter.cost
        position, ahead = self._standings[ticket]
        return QueuePosition(position, self.estimator.wait(ahead, self.running))

    def _check_patience(self, ticket: Waiter, now: float) -> None:
        """Refuse who would wait in vain. Who need not wait is let in, whatever was measured: so it is measured anew."""
        if ticket.patience.place <= now:
            raise QueueTimeout("the time to wait for a place was over before the wait began")
        if not self._waiting and self._fits(ticket):
            return
        wait = self.estimator.wait(self._line.ahead(ticket), self.running)
        if wait is not None and now + wait + (self.estimator.first_seconds or 0.0) > ticket.patience.first_token:
            left = ticket.patience.first_token - now
            what = f"the first token would come in about {wait:.1f} s, and the request has {left:.1f} s for it"
            raise self._overloaded(what, ticket)

    def _serve(self) -> None:
        """Let in from the head of the line; who came too late to wait any longer is never computed."""
        now = self._clock()
        while (head := self._next()) is not None:
            if head.patience.place <= now:
                self._expire(head)
            elif not self._fits(head) or (attempt := self._attempt()) is None:
                return
            else:
                self._line.take(head)
                self._forget(head)
                self.running += 1
                self._held[head.caller] += 1
                self.tokens += head.cost
                head.attempt, head.held, head.granted = attempt, head.cost, now
                head.tell(None)

    def _next(self) -> Waiter | None:
        """Find who is to be let in next: the head, unless the last places are not for it but for others behind it."""
        head = self._line.head()
        if head is None or not self._is_spared(head):
            return head
        if self._line.count(head.caller) == len(self._line):
            return None
        return next((ticket for ticket in self._line.order() if not self._is_spared(ticket)), None)

    def _attempt(self) -> Attempt | None:
        """Ask the breaker; where it is open, look again when it may be tried."""
        attempt = self.breaker.attempt()
        if attempt is None and (wait := self.breaker.wait) and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(wait, self._serve_again)
        return attempt

    def _serve_again(self) -> None:
        self._retry = None
        self._serve()

    def _fits(self, ticket: Waiter) -> bool:
        if self._is_paused or self.running >= max(self._card.places, 1) or self._is_spared(ticket):
            return False
        room = self._card.cache_tokens
        return not self.running or not room or self.tokens + ticket.cost <= room

    def _note_caller(self, caller: str, now: float) -> None:
        """Remember the last two callers that differ: one of them is another than whoever is asked about."""
        self._callers[caller] = now
        self._callers.move_to_end(caller)
        while len(self._callers) > 2:  # noqa: PLR2004 - two, as it says
            self._callers.popitem(last=False)

    def _is_spared(self, ticket: Waiter) -> bool:
        """Tell whether the last places are kept from this caller."""
        places = max(self._card.places, 1)
        if self._held[ticket.caller] < places - min(self.settings.spare_places, places // _SPARED_OF):
            return False
        now = self._clock()
        return any(other != ticket.caller and now - at < _LATELY for other, at in self._callers.items())

    def _expire(self, ticket: Waiter) -> None:
        seconds = self._clock() - ticket.joined
        self._dismiss(
            ticket, QueueTimeout(f"no place came free within {seconds:.1f} s", retry_after=self._retry_after(ticket))
        )

    def _dismiss(self, ticket: Waiter, error: EngineError) -> None:
        if ticket in self._waiting:
            self._line.remove(ticket)
            self._forget(ticket)
            ticket.tell(error)

    def _forget(self, ticket: Waiter) -> None:
        self._waiting.discard(ticket)
        self._announce()

    def _announce(self) -> None:
        """Tell who watches the line that it has moved."""
        self._standings = None
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    def _overloaded(self, what: str, ticket: Waiter) -> Overloaded:
        return Overloaded(what, retry_after=self._retry_after(ticket))

    def _retry_after(self, ticket: Waiter) -> float:
        """Say when the line as it stands would have let `ticket` in."""
        wait = self.estimator.wait(self._line.ahead(ticket), self.running)
        return 1.0 if wait is None else min(max(wait, 1.0), _LONGEST_RETRY)
