"""The one way to a place in a model's batch, and to an answer about a prompt."""

import time
from collections.abc import Callable, Iterable

from gateway.admission.permit import Permit
from gateway.admission.pressure import Pressure
from gateway.admission.question_queue import OF_MANY_TEXTS, QuestionQueue
from gateway.admission.queue import ModelQueue
from gateway.admission.settings import AdmissionSettings
from gateway.admission.standby import Idleness
from gateway.admission.waiter import Standby, WaitLimits
from gateway.engine import GenerateRequest, ModelCard
from gateway.flow.breaker import State
from gateway.linux import used_share

# Work that stands by is no caller's where places are shared out by caller.
_STANDBY = "(standby)"
# A model on a server elsewhere shares no device with others.
_REMOTE = "remote"


class Admission:
    """Keeps two queues a model, of generations and of questions; `clock` is the source of every time here.

    A model and those that are it with an adapter run in one batch: they have the same queues, under its name.
    """

    def __init__(
        self,
        settings: AdmissionSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], float | None] = used_share,
    ) -> None:
        self.clock = clock
        self.queues: dict[str, ModelQueue] = {}
        self.questions: dict[str, QuestionQueue] = {}
        self._pressure = Pressure(memory, clock)
        self._idleness: dict[str, Idleness] = {}
        self._settings = settings or AdmissionSettings()

    def cost(self, request: GenerateRequest, card: ModelCard, answers: int = 1) -> int:
        """Bound the tokens that a prompt and so many answers to it may take."""
        return self.queue(card).bound(request, answers)

    def permit(
        self, request: GenerateRequest, card: ModelCard, caller: str, limits: WaitLimits, cost: int | None = None
    ) -> Permit:
        """Make the permit of one request of `caller`: enter it to wait for a place and to hold it.

        Raises `MemoryPressure` where there is too little memory left for it. `cost` is its bound, if that is known.

        Entering raises `Overloaded` at once when the queue is full or the first token would come too late,
        `QueueTimeout` when the limit passes in the queue, `Unavailable` while the breaker is open.
        """
        permit = Permit(self.queue(card), request, _name(caller, limits), limits, cost)
        self._pressure.check(permit.cost)
        return permit

    def ask(self, request: GenerateRequest, card: ModelCard, caller: str, limits: WaitLimits, cost: int) -> Permit:
        """Make the permit of a question about the prompt of `request`, which is not generated; as `permit` does."""
        queue = self.questions.get(card.batch)
        if queue is None:
            queue = self.questions[card.batch] = QuestionQueue(card, self.clock, self._settings)
            if OF_MANY_TEXTS & card.capabilities:  # other questions take little of the device's time
                queue.idleness = self._idle(card)
        elif queue.card is not card:
            queue.configure(card, self._settings)
        self._pressure.check(cost)
        return Permit(queue, request, _name(caller, limits), limits, cost)

    def queue(self, card: ModelCard) -> ModelQueue:
        """Find the queue of a model, as its card is now."""
        queue = self.queues.get(card.batch)
        if queue is None:
            queue = self.queues[card.batch] = ModelQueue(card, self.clock, self._settings)
            queue.idleness = self._idle(card)
        elif queue.card is not card:
            queue.configure(card, self._settings)
        return queue

    async def wait_idle(self, card: ModelCard, work: Standby) -> None:
        """Wait until work that stands by may begin on the device of a model; a request may still be quicker."""
        await self._idle(card).wait(work)

    def queues_of(self, cards: Iterable[ModelCard]) -> list[ModelQueue]:
        """List the queues of several models, as far as anything was asked of them; one that is shared is there once."""
        return [self.queues[name] for name in {card.batch for card in cards} if name in self.queues]

    def waiting(self, cards: Iterable[ModelCard]) -> int:
        """Count the requests that wait for a place in any of the models."""
        return sum(queue.waiting for queue in self.queues_of(cards))

    def breaker(self, cards: Iterable[ModelCard]) -> State:
        """Tell the state of the breakers of several models: the worst of all."""
        found = {queue.breaker.state for queue in self.queues_of(cards)}
        return next((state for state in (State.OPEN, State.HALF_OPEN) if state in found), State.CLOSED)

    def configure(self, settings: AdmissionSettings) -> None:
        """Go by other settings from now on; requests that wait or run stay."""
        self._settings = settings
        for queue in (*self.queues.values(), *self.questions.values()):
            queue.configure(queue.card, settings)

    def _idle(self, card: ModelCard) -> Idleness:
        """Find what is known of a model's device; models on one device share it."""
        device = card.name if card.device == _REMOTE else card.device
        return self._idleness.setdefault(device, Idleness(self.clock))


def _name(caller: str, limits: WaitLimits) -> str:
    return caller if limits.standby is None else _STANDBY
