"""An engine that is left alone is asked lightly whether it is back; no request need find out."""

import asyncio

import pytest

from gateway.admission import Admission
from gateway.config import EngineSettings
from gateway.engine import Engine, Health, ModelCard
from gateway.hosting.directory import Directory
from gateway.hosting.hosted import HostedEngine
from gateway.hosting.prober import Prober
from tests.support.clock import Clock

CARD = ModelCard(name="m", context_window=8, capabilities=frozenset())


class Remote(Engine):
    """Says of its server what it is told to, and counts how often it is asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, 0

    def models(self):
        return (CARD,)

    async def generate(self, request):
        raise NotImplementedError
        yield

    async def probe(self):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Ward:
    """One engine, the queue of its model, and the prober that looks after both."""

    def __init__(self, answer):
        self.clock, self.engine = Clock(), Remote(answer)
        admission = Admission(clock=self.clock)
        self.queue = admission.queue(CARD)
        settings = EngineSettings(plugin="echo")
        self.hosted = HostedEngine(name="e", config=settings, build=lambda: self.engine, engine=self.engine)
        self.hosted.health, self.hosted.cards = Health.READY, (CARD,)
        self.prober = Prober(Directory([self.hosted]), admission)

    def open(self):
        for _ in range(5):
            self.queue.breaker.attempt().fail()

    async def pass_by(self, seconds):
        for _ in range(round(seconds / 0.25)):
            await self.prober.look()
            self.clock.advance(0.25)


@pytest.fixture
def ward():
    return Ward


async def test_an_engine_that_is_asked_by_requests_is_not_probed(ward):
    found = ward(answer=False)
    await found.pass_by(20)
    assert found.engine.asked == 0


@pytest.mark.parametrize("answer", [False, OSError("refused")])
async def test_while_it_is_away_it_stays_alone_and_is_probed_less_and_less(ward, answer):
    found = ward(answer)
    found.open()
    states, asked = set(), []
    for _ in range(10):
        before = found.engine.asked
        await found.pass_by(10)
        states.add(found.queue.breaker.state)
        asked.append(found.engine.asked - before)
    assert states == {"open"}
    assert 3 <= asked[0] <= 6
    assert 5 <= sum(asked[-5:]) <= 12  # in 50 s


async def test_once_it_is_back_one_request_may_try_it(ward):
    found = ward(answer=False)
    found.open()
    await found.pass_by(30)
    found.engine.answer = True
    await found.pass_by(11)
    assert found.queue.breaker.state == "half_open"
    found.queue.breaker.attempt().succeed()
    asked = found.engine.asked
    await found.pass_by(20)
    assert found.engine.asked == asked


async def test_one_that_cannot_tell_is_left_to_the_breaker(ward):
    found = ward(None)
    found.open()
    wait = found.queue.breaker.wait
    await found.pass_by(2)
    assert found.queue.breaker.wait == pytest.approx(wait - 2)


async def test_one_that_is_not_loaded_is_not_asked(ward):
    found = ward(answer=True)
    found.open()
    found.hosted.engine = None
    await found.pass_by(5)
    assert found.engine.asked == 0


async def test_it_looks_by_itself_while_it_runs(ward):
    found = ward(answer=True)
    found.open()
    async with found.prober:
        async with asyncio.timeout(60):
            while found.queue.breaker.state == "open":  # noqa: ASYNC110 - a breaker tells nobody
                await asyncio.sleep(0.01)
    assert found.engine.asked >= 1
