"""Tasks are ended once, and whoever ends them waits for their clean-up whatever happens meanwhile."""

import asyncio

import pytest
from loguru import logger

from gateway.engine import EngineError
from gateway.flow.tasks import Tasks, end_all, see_through


class Work:
    """Runs until it is cancelled, and cleans up until it is let go."""

    def __init__(self, error=None):
        self.may_end = asyncio.Event()
        self.cancellations = 0
        self.task = asyncio.create_task(self.run(error))

    async def run(self, error):
        try:
            await asyncio.Event().wait()
        finally:
            self.cancellations += 1
            await self.may_end.wait()
            if error is not None:
                raise error


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_is_cancelled_while_it_waits_waits_on_and_is_cancelled_then():
    works = [Work(), Work()]
    await turns()
    ending = asyncio.create_task(end_all([work.task for work in works]))
    for _ in range(3):
        await turns()
        ending.cancel()
    await turns()
    assert not ending.done()
    for work in works:
        work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert all(work.task.done() and work.cancellations == 1 for work in works)


async def test_what_is_seen_through_ends_whoever_is_cancelled_meanwhile():
    done = []

    async def work():
        await asyncio.sleep(0.01)
        done.append("done")
        return 7

    assert await see_through(work()) == 7
    waiting = asyncio.create_task(see_through(work()))
    for _ in range(2):
        await asyncio.sleep(0)
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == ["done", "done"]


async def test_an_error_of_what_is_seen_through_is_raised():
    async def work():
        raise RuntimeError("it failed")

    with pytest.raises(RuntimeError, match="it failed"):
        await see_through(work())


async def test_what_is_done_already_is_left_alone():
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await end_all([done])
    await end_all([])


@pytest.mark.parametrize(("error", "lines"), [(EngineError("over"), 0), (ValueError("bug"), 1)])
async def test_a_bug_of_the_clean_up_is_logged_and_masks_nothing(error, lines):
    said = []
    sink = logger.add(said.append, level="ERROR")
    work = Work(error)
    await turns()
    work.may_end.set()
    await end_all([work.task])
    logger.remove(sink)
    assert len(said) == lines


async def test_a_set_of_tasks_forgets_the_ended_and_ends_the_others():
    tasks, ended = Tasks(), []

    async def work(name, seconds):
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(name)

    short, long = tasks.start(work("short", 0)), tasks.start(work("long", 60))
    await short
    await tasks.end()
    assert long.cancelled()
    assert ended == ["short", "long"]
    await tasks.end()


async def test_a_set_of_tasks_waits_for_all_whether_they_fail_or_not():
    tasks, gate = Tasks(), asyncio.Event()

    async def fail():
        await gate.wait()
        raise EngineError("over")

    failing = tasks.start(fail())
    waiting = asyncio.create_task(tasks.wait())
    await turns()
    assert not waiting.done()
    gate.set()
    await waiting
    with pytest.raises(EngineError):
        await failing
    await tasks.wait()
