import asyncio

import pytest

from gateway.flow.budget import ByteBudget


async def waits(budget, amount):
    """Begin to take, and see that it has to wait."""
    taking = asyncio.create_task(budget.take(amount))
    await asyncio.sleep(0)
    assert not taking.done()
    return taking


async def test_what_fits_is_had_at_once():
    budget = ByteBudget(10)
    await budget.take(4)
    await budget.take(6)
    assert budget.held == 10


async def test_the_next_waits_for_its_turn_and_no_smaller_one_passes_it():
    budget = ByteBudget(10)
    await budget.take(8)
    large, small = await waits(budget, 5), await waits(budget, 1)
    budget.give_back(8)
    await asyncio.gather(large, small)
    assert budget.held == 6


async def test_more_than_all_is_had_once_nothing_else_is_held():
    budget = ByteBudget(10)
    await budget.take(1)
    taking = await waits(budget, 50)
    budget.give_back(1)
    await taking
    assert budget.held == 50


async def test_one_that_gives_up_waiting_takes_nothing_and_lets_the_next_in():
    budget = ByteBudget(10)
    await budget.take(8)
    large, small = await waits(budget, 5), await waits(budget, 2)
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    await small
    assert budget.held == 10


async def test_one_that_is_cancelled_at_its_turn_gives_back_what_it_got():
    budget = ByteBudget(10)
    await budget.take(8)
    taking = await waits(budget, 5)
    budget.give_back(8)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert budget.held == 0
