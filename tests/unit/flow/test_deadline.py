"""One timer ends a generation; so may anybody else."""

import asyncio

import pytest

from gateway.engine import DeadlineExceeded, Delta, Draining
from gateway.flow.deadline import Deadline

FOREVER = 3_600


class Stream:
    """Yields deltas, then waits for ever; knows whether it was closed."""

    def __init__(self, count=1):
        self.count = count
        self.closed = False

    async def events(self):
        try:
            for _ in range(self.count):
                yield Delta("x")
            await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_events_pass_and_the_end_is_none():
    async def one():
        yield Delta("x")

    async with Deadline(FOREVER) as deadline:
        events = one()
        assert await deadline.wait(anext(events, None)) == Delta("x")
        assert await deadline.wait(anext(events, None)) is None


async def test_time_that_runs_out_ends_the_read_in_flight_and_the_stream():
    stream = Stream()
    events = stream.events()
    async with Deadline(0.01) as deadline:
        deadline.arm()
        await deadline.wait(anext(events, None))
        with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
            await deadline.wait(anext(events, None))
    assert stream.closed


async def test_a_cut_between_two_reads_is_seen_by_the_next():
    events = Stream(2).events()
    async with Deadline(FOREVER) as deadline:
        await deadline.wait(anext(events, None))
        deadline.abort(Draining("going down"))
        deadline.abort(DeadlineExceeded("too late to matter"))
        with pytest.raises(Draining, match="going down"):
            await deadline.wait(anext(events, None))
    await events.aclose()


async def test_a_cancel_from_elsewhere_stays_a_cancel():
    stream = Stream(0)
    events = stream.events()

    async def read():
        async with Deadline(FOREVER) as deadline:
            await deadline.wait(anext(events, None))

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.closed


async def test_a_cancel_that_meets_a_cut_wins():
    events = Stream(0).events()
    deadline = Deadline(FOREVER)

    async def read():
        async with deadline:
            await deadline.wait(anext(events, None))

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    deadline.abort(Draining("going down"))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_was_cut_can_go_on():
    events = Stream(0).events()
    async with Deadline(0.01) as deadline:
        deadline.arm()
        with pytest.raises(DeadlineExceeded):
            await deadline.wait(anext(events, None))
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_leaving_stops_the_timer():
    deadline = Deadline(0.01)
    async with deadline:
        deadline.arm()
        timer = deadline._timer
    assert timer.cancelled()


async def test_no_time_runs_before_it_is_armed():
    async with Deadline(0.0) as deadline:
        assert await deadline.wait(asyncio.sleep(0.01, "waited")) == "waited"


async def test_the_first_token_has_a_time_of_its_own():
    async with Deadline(FOREVER, 0.01) as deadline:
        deadline.arm()
        with pytest.raises(DeadlineExceeded, match=r"first token did not come within 0\.01 s"):
            await deadline.wait(asyncio.Event().wait())


async def test_after_the_first_token_only_the_end_counts():
    async with Deadline(FOREVER, 0.01) as deadline:
        deadline.arm()
        deadline.relax()
        assert await deadline.wait(asyncio.sleep(0.03, "waited")) == "waited"


async def test_one_timer_runs_at_a_time():
    async with Deadline(FOREVER) as deadline:
        deadline.arm()
        timer = deadline._timer
        deadline.relax()
        assert deadline._timer is timer


async def test_what_a_cut_keeps_from_running_is_closed():
    async with Deadline(FOREVER) as deadline:
        deadline.abort(Draining("going down"))
        with pytest.raises(Draining):
            await deadline.wait(asyncio.sleep(FOREVER))
