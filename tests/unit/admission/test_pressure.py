"""Little memory left turns away large requests first, then all."""

import pytest

from gateway.admission import Admission, MemoryPressure, WaitLimits
from gateway.engine import Completion, GenerateRequest, ModelCard, Sampling
from tests.support.clock import Clock

CARD = ModelCard(name="m", context_window=100_000, capabilities=frozenset())


class House:
    def __init__(self):
        self.clock = Clock()
        self.share = None
        self.looks = 0
        self.admission = Admission(clock=self.clock, memory=self.read)

    def read(self):
        self.looks += 1
        return self.share

    def is_taken(self, tokens) -> bool:
        self.clock.advance(1)
        asked = GenerateRequest(id="1", model="m", prompt=Completion(""), sampling=Sampling(max_tokens=tokens))
        try:
            self.admission.permit(asked, CARD, "", WaitLimits())
        except MemoryPressure:
            return False
        return True


@pytest.mark.parametrize(
    ("share", "small", "large"), [(None, True, True), (0.89, True, True), (0.92, True, False), (0.96, False, False)]
)
def test_the_larger_goes_first(share, small, large):
    house = House()
    house.share = share
    assert (house.is_taken(10), house.is_taken(5_000)) == (small, large)


def test_it_is_over_when_memory_is_free_again():
    house = House()
    house.share = 0.99
    assert not house.is_taken(10)
    house.share = 0.5
    assert house.is_taken(10)


def test_it_does_not_look_at_every_request():
    house = House()
    asked = GenerateRequest(id="1", model="m", prompt=Completion(""))
    for _ in range(100):
        house.admission.permit(asked, CARD, "", WaitLimits())
    assert house.looks == 1
