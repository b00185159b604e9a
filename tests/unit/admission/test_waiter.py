"""A request passes the states of the drawing, whichever way it takes."""

import asyncio

import pytest

from gateway.admission import QueueTimeout
from gateway.admission.waiter import WaiterState
from gateway.engine import Overloaded, Started, Unavailable, UpstreamFailed
from tests.unit.admission.conftest import settle_down


def state(permit):
    return permit._waiter.state


@pytest.fixture
def full(make_house):
    """A model whose only place is held, with room for one waiter."""
    return make_house(places=1, waiters_per_place=1)


async def test_a_request_is_outside_waits_is_held_settled_and_has_left(full):
    first, permit, until = full.permit(), full.permit(), asyncio.Event()
    assert state(permit) is WaiterState.OUTSIDE
    await first.__aenter__()
    working = asyncio.create_task(full.work("x", permit, until))
    await settle_down()
    assert state(permit) is WaiterState.WAITING
    await first.__aexit__(None, None, None)
    assert state(permit) is WaiterState.HELD
    permit.settle(Started(1))
    assert state(permit) is WaiterState.SETTLED
    until.set()
    await working
    assert state(permit) is WaiterState.LEFT
    full.assert_empty()


async def test_a_request_leaves_from_its_place_before_it_has_started(house):
    permit = house.permit()
    await permit.__aenter__()
    assert state(permit) is WaiterState.HELD
    await permit.__aexit__(None, UpstreamFailed("down"), None)
    assert state(permit) is WaiterState.LEFT


async def test_a_request_leaves_from_the_queue(full):
    async with full.permit():
        permit = full.permit()
        working = asyncio.create_task(full.work("x", permit, asyncio.Event()))
        await settle_down()
        assert state(permit) is WaiterState.WAITING
        working.cancel()
        await asyncio.wait({working})
        assert state(permit) is WaiterState.LEFT
    full.assert_empty()


async def test_a_limit_that_passes_in_the_queue_expires(full):
    async with full.permit():
        permit = full.permit(place=full.clock() + 0.01)
        with pytest.raises(QueueTimeout):
            await permit.__aenter__()
        assert state(permit) is WaiterState.LEFT
    full.assert_empty()


async def test_a_full_queue_and_an_open_breaker_refuse(full):
    async with full.permit():
        waiting = full.start("x", asyncio.Event())
        await settle_down()
        permit = full.permit()
        with pytest.raises(Overloaded):
            await permit.__aenter__()
        assert state(permit) is WaiterState.LEFT
        waiting.cancel()
    for _ in range(5):
        full.queue.breaker.attempt().fail()
    permit = full.permit()
    with pytest.raises(Unavailable):
        await permit.__aenter__()
    assert state(permit) is WaiterState.LEFT
    with pytest.raises(RuntimeError, match="entered once"):
        await permit.__aenter__()


async def test_a_caller_with_fewer_waiters_displaces_one(make_house):
    house = make_house(places=1, waiters_per_place=2)
    async with house.permit():
        permits = [house.permit(caller="noisy") for _ in range(2)]
        tasks = [asyncio.create_task(house.work("x", permit, asyncio.Event())) for permit in permits]
        await settle_down()
        tasks.append(house.start("quiet", asyncio.Event(), caller="quiet"))
        await settle_down()
        assert [state(permit) for permit in permits] == [WaiterState.WAITING, WaiterState.LEFT]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    house.assert_empty()
