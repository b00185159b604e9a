"""Large pieces of work go on one after the other, with time for others between them."""

import asyncio

import pytest

from gateway.flow.turns import Turns


class Clock:
    """Seconds that pass where something sleeps, and `meanwhile`, which is done in each sleep."""

    def __init__(self):
        self.now = 1_000.0
        self.meanwhile = lambda: None
        self._sleep = asyncio.sleep

    async def sleep(self, seconds):
        await self._sleep(0)
        self.meanwhile()
        self.now += seconds


@pytest.fixture
async def clock(monkeypatch):
    """A clock of the event loop's, by which no test waits."""
    clock = Clock()
    monkeypatch.setattr("gateway.flow.turns.asyncio.sleep", clock.sleep)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
    return clock


async def begins(turns, clock, *units):
    """Say after how many seconds each of these turns begins, all waited for from now on."""
    begun, found = clock.now, []

    async def wait(amount):
        await turns.wait(amount)
        found.append(clock.now - begun)

    await asyncio.gather(*map(wait, units))
    return found


async def test_each_waits_for_the_work_of_those_before_it(clock):
    assert await begins(Turns(rate=2.0), clock, 4, 1, 2) == [0, 2, 2.5]


async def test_time_that_was_not_used_is_not_saved(clock):
    turns = Turns(rate=1.0)
    await turns.wait(1)
    clock.now += 100
    assert await begins(turns, clock, 1, 1) == [0, 1]


async def test_what_is_ready_runs_before_a_turn_that_is_free():
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, "ready")
    await Turns(rate=1.0).wait(1)
    assert ran == ["ready"]


async def test_a_caller_that_leaves_has_no_turn():
    turns = Turns(rate=1e-6)
    await turns.wait(1)
    waiting = [asyncio.create_task(turns.wait(1)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    turns._next = turns._ends = 0.0
    await turns.wait(1)


async def test_work_that_waits_for_no_turn_puts_off_one_that_is_free_by_a_second_at_most(clock):
    turns = Turns(rate=1.0)
    turns.spend(0.5)
    assert await begins(turns, clock, 1) == [0.5]
    clock.now += 100
    turns.spend(3_600)
    assert await begins(turns, clock, 1) == [1]


async def test_work_that_waits_for_no_turn_puts_off_those_that_are_waited_for(clock):
    turns = Turns(rate=2.0)
    spent = iter([0, 0, 0.5])  # the third sleep is the one for the second turn
    clock.meanwhile = lambda: turns.spend(next(spent, 0))
    assert await begins(turns, clock, 1, 1) == [0, 0.75]


async def test_a_turn_comes_after_four_of_its_lengths_however_much_others_spend(clock):
    turns = Turns(rate=1.0)
    clock.meanwhile = lambda: turns.spend(100)
    first, second = await begins(turns, clock, 0.1, 0.2)
    assert first == pytest.approx(0.4)
    assert second == pytest.approx(0.4 + 0.1 + 0.8)
