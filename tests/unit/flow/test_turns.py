"""Large pieces of work go on one after the other, with time for others between them."""

import asyncio

import pytest

from gateway.flow.turns import Turns

HOUR = 3_600.0


@pytest.fixture
def slept(monkeypatch):
    """The seconds of each sleep, of which none is slept."""
    seconds, sleep = [], asyncio.sleep

    async def note(delay):
        seconds.append(delay)
        await sleep(0)

    monkeypatch.setattr("gateway.flow.turns.asyncio.sleep", note)
    return seconds


async def test_each_waits_for_the_work_of_those_before_it(slept):
    turns = Turns(rate=2 / HOUR)
    for units in (4, 1, 2):
        await turns.wait(units)
    assert slept[0] == 0
    assert [round(seconds / HOUR, 2) for seconds in slept] == [0, 2, 2.5]


async def test_time_that_was_not_used_is_not_saved(slept):
    turns = Turns(rate=1e9)
    for _ in range(3):
        await turns.wait(1)
        await asyncio.to_thread(lambda: None)
    assert slept == [0, 0, 0]


async def test_what_is_ready_runs_before_a_turn_that_is_free():
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, "ready")
    await Turns(rate=1.0).wait(1)
    assert ran == ["ready"]


async def test_a_caller_that_leaves_waits_no_longer_and_has_had_its_turn(slept):
    turns = Turns(rate=1 / HOUR)
    task = asyncio.create_task(turns.wait(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await turns.wait(1)
    assert round(slept[-1] / HOUR, 2) == 1


async def test_work_that_waits_for_no_turn_puts_the_next_one_off_but_not_for_long(slept):
    turns = Turns(rate=1.0)
    turns.spend(0.5)
    turns.spend(HOUR)
    await turns.wait(HOUR)
    turns.spend(HOUR)
    await turns.wait(1)
    assert [round(seconds) for seconds in slept] == [1, HOUR + 1]
