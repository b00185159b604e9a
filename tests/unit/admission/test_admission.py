"""Each model has its queues, and those that are it with an adapter have the same: they run in one batch."""

from msgspec import structs

from gateway.admission import Admission
from gateway.admission.waiter import WaitLimits
from gateway.engine import Completion, GenerateRequest, ModelCard
from tests.support.clock import Clock

BASE = ModelCard(name="base", context_window=64, capabilities=frozenset(), places=2, cache_tokens=128)
SQL, LAW = (structs.replace(BASE, name=name, parent="base") for name in ("sql", "law"))
OTHER = structs.replace(BASE, name="other")


def permit(admission, card, caller):
    request = GenerateRequest(id="r", model=card.name, prompt=Completion("a"))
    return admission.permit(request, card, caller, WaitLimits())


async def test_a_model_and_its_adapters_share_the_places_and_the_tokens():
    admission = Admission(clock=Clock())
    async with permit(admission, SQL, "a"), permit(admission, LAW, "b"), permit(admission, OTHER, "a"):
        queue = admission.queue(BASE)
        assert queue is admission.queue(SQL) is admission.queue(LAW) is not admission.queue(OTHER)
        assert (queue.places.running, queue.places.total) == (2, 2)
        assert not queue.places.fits(1)
        assert admission.queues.keys() == {"base", "other"}
    assert queue.places.tokens == 0


async def test_a_queue_that_is_shared_is_counted_once():
    admission = Admission(clock=Clock())
    assert admission.queues_of((BASE, SQL)) == []
    queue = admission.queue(SQL)
    assert admission.queues_of((BASE, SQL, LAW)) == [queue]
    assert admission.waiting((BASE, SQL, LAW)) == 0
