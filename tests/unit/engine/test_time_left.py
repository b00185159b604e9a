"""The time that a request leaves runs out, and what is awaited then ends."""

import asyncio

import pytest

from gateway.engine import Completion, DeadlineExceeded, EmbedRequest, TimeLeft


async def test_without_seconds_it_has_no_end():
    time = TimeLeft(None)
    async with time.limit("late"):
        await asyncio.sleep(0)
    assert time.seconds is None


async def test_what_is_awaited_ends_with_it():
    with pytest.raises(DeadlineExceeded, match="nothing came"):
        async with TimeLeft(0.0).limit("nothing came"):
            await asyncio.Event().wait()


async def test_it_runs():
    time = TimeLeft(1000.0)
    assert 0 < time.seconds <= 1000.0
    assert TimeLeft(-1.0).seconds == 0.0


async def test_it_is_found_among_the_arguments_of_a_question():
    assert TimeLeft.of(("m", Completion("a"))).seconds is None
    assert TimeLeft.of((EmbedRequest(id="1", model="m", inputs=(Completion("a"),), timeout=0.0),)).seconds == 0.0
