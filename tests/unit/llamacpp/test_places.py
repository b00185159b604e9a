"""Each answer has the place that remembers most of its prompt, and no place tells one caller of another."""

import asyncio

import pytest

from gateway_llamacpp.places import PlaceTable, common


async def visit(places, salt, *ids):
    async with places.take(salt, ids) as (place, may_reuse):
        return place.number, may_reuse


async def test_a_conversation_finds_its_place_again():
    places = PlaceTable(3)
    first = await visit(places, "a", 1, 2, 3)
    await visit(places, "a", 7, 8)
    assert await visit(places, "a", 1, 2, 3, 4) == (first[0], True)


async def test_what_one_caller_said_is_not_reused_for_another():
    places = PlaceTable(1)
    await visit(places, "a", 1, 2, 3)
    assert await visit(places, "b", 1, 2, 3) == (0, False)
    assert await visit(places, "b", 1, 2, 3) == (0, True)


async def test_a_new_prompt_takes_the_place_that_was_free_longest():
    places = PlaceTable(2)
    assert [await visit(places, "a", number) for number in (1, 2, 3)] == [(0, False), (1, False), (0, True)]


async def test_places_are_given_back_and_counted():
    places = PlaceTable(1)
    async with places.take("", (1, 2)):
        assert (places.running, places.used) == (1, 2)
        late = asyncio.create_task(visit(places, "", 1))
        await asyncio.sleep(0)
        assert places.waiting == 1
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert places.waiting == 0
    assert (places.running, places.used) == (0, 0)
    assert await visit(places, "", 1) == (0, True)


@pytest.mark.parametrize(
    ("left", "right", "count"), [((), (1,), 0), ((1, 2), (1, 2, 3), 2), ((1, 2, 3), (1, 5, 3), 1), ((4,), (5,), 0)]
)
def test_common_beginnings_are_counted(left, right, count):
    assert common(left, right) == common(right, left) == count
