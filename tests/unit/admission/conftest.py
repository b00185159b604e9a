"""A queue with a clock of its own, and requests that want in."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.admission import Admission, AdmissionSettings, WaitLimits
from gateway.engine import Completion, GenerateRequest, ModelCard, Sampling, Started
from tests.support.clock import Clock


class House:
    """Asks for permits of one model, and looks after those who hold them."""

    def __init__(self, places=2, cache_tokens=0, waiters_per_place=4, capabilities=()):
        self.clock = Clock()
        self.admission = Admission(AdmissionSettings(waiters_per_place=waiters_per_place), self.clock)
        self.card = ModelCard(
            name="m",
            context_window=1_000,
            capabilities=frozenset(capabilities),
            places=places,
            cache_tokens=cache_tokens,
        )
        self.log = []

    @property
    def queue(self):
        return self.admission.queue(self.card)

    def permit(self, caller="a", tokens=9, priority=0, **limits):
        request = GenerateRequest(
            id="1", model="m", prompt=Completion(""), sampling=Sampling(max_tokens=tokens), priority=priority
        )
        return self.admission.permit(request, self.card, caller, WaitLimits(**limits))

    async def work(self, name, permit, until):
        async with permit:
            self.log.append(name)
            await until.wait()

    def start(self, name, until, **terms):
        return asyncio.create_task(self.work(name, self.permit(**terms), until))

    async def measure(self, seconds=2.0, first=0.5, times=40):
        """Let requests of 10 tokens pass that take this long, so that the queue has its measurements."""
        for _ in range(times):
            async with self.permit() as permit:
                self.clock.advance(first)
                permit.settle(Started(1))
                self.clock.advance(seconds - first)

    async def fill(self, stack: AsyncExitStack, **terms):
        for _ in range(self.card.places):
            await stack.enter_async_context(self.permit(**terms))

    def assert_empty(self):
        assert (self.queue.places.running, self.queue.places.tokens, self.queue.waiting) == (0, 0, 0)


async def settle_down():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def house():
    return House()


@pytest.fixture
def make_house():
    return House
