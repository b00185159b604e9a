"""What is foreseen of a request is what becomes of it, and nothing is changed by looking."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.engine import Overloaded
from tests.unit.admission.conftest import House


async def test_a_free_place_is_position_0_and_costs_no_wait():
    house = House()
    assert (house.permit().foresee().position, house.permit().foresee().wait) == (0, 0.0)
    assert house.permit().foresee().first_token is None
    await house.measure(first=0.5)
    assert house.permit().foresee().first_token == pytest.approx(0.5)


async def test_the_position_and_the_wait_are_those_that_it_gets():
    house, end = House(places=1), asyncio.Event()
    await house.measure()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(house.permit())
        tasks = [house.start(name, end, caller=name) for name in "bc"]
        await asyncio.sleep(0)
        told = house.permit(caller="d").foresee()
        assert (house.queue.waiting, told.refusal) == (2, None)
        joined = house.permit(caller="d")
        tasks.append(asyncio.create_task(house.work("d", joined, end)))
        await asyncio.sleep(0)
        assert (joined.position.position, joined.position.eta) == (told.position, pytest.approx(told.wait))
        assert told.first_token == pytest.approx(told.wait + house.queue.estimator.first_seconds)
        end.set()
    await asyncio.gather(*tasks)


async def test_a_full_queue_and_too_short_a_time_are_foreseen():
    house, end = House(places=1, waiters_per_place=1), asyncio.Event()
    await house.measure()
    async with house.permit():
        waits = house.start("b", end, caller="b")
        await asyncio.sleep(0)
        assert isinstance(house.permit(caller="b").foresee().refusal, Overloaded)
        late = house.permit(caller="c", first_token=house.clock() + 0.1).foresee()
        assert "the first token would come" in str(late.refusal)
        assert house.queue.waiting == 1
        end.set()
    await waits
