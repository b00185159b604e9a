"""What would become of a request in a queue, without it joining."""

from itertools import accumulate

from gateway.admission.queue import ModelQueue, overloaded
from gateway.admission.waiter import Foresight, Waiter
from gateway.engine import EngineError


def foresee(queue: ModelQueue, waiter: Waiter) -> Foresight:
    """Say how `waiter` would fare, as the queue stands and as it has fared of late; change nothing."""
    now = queue.clock()
    refusal = _refusal(queue, waiter, now)
    if not queue.waiting and queue.fits(waiter, now):
        return Foresight(0, 0.0, queue.estimator.first_seconds, refusal)
    ahead = queue.waiters.ahead(waiter)
    before = sum(tokens <= ahead for tokens in accumulate(each.cost for each in queue.waiters.order()))
    wait = queue.estimator.wait(ahead, queue.places.running)
    first = queue.estimator.first_seconds
    return Foresight(before + 1, wait, None if wait is None or first is None else wait + first, refusal)


def _refusal(queue: ModelQueue, waiter: Waiter, now: float) -> EngineError | None:
    try:
        queue.check_breaker(waiter)
        queue.check_limits(waiter, now)
    except EngineError as error:
        return error
    return None if queue.waiters.has_room(waiter) else overloaded(queue, "too many requests are waiting", waiter)
