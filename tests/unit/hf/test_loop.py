"""The thread, its orders and its end, over a scripted batch."""

import asyncio
import threading
import weakref

import pytest

from gateway.engine import EngineError, Finished, Post, Started, Unavailable
from gateway_hf.batch import Batch
from gateway_hf.loop import Loop
from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.scheduler import Scheduler
from tests.support.scripted_batch import SIZE, ScriptedRunner, make_generation


def _scheduler(made=Scheduler):
    return made(2, 4, Blocks(100_000, SIZE))


class _BrokenScheduler(Scheduler):
    broken = False

    def plan(self):
        if self.broken:
            raise KeyError("a bug")
        return super().plan()


class _BreaksAtTheEnd(Batch):
    def step(self):
        yield from super().step()
        raise KeyError("a bug")


def _loop(batch):
    return Loop(lambda: (batch, "the card"), lambda: None, Post(asyncio.get_running_loop()))


async def _read(generation):
    async with asyncio.timeout(20):
        events = [await generation.mailbox.get()]
        while not isinstance(events[-1], Finished):
            events.append(await generation.mailbox.get())
        return events


@pytest.fixture
async def scheduler():
    return _scheduler(_BrokenScheduler)


@pytest.fixture
async def loop(scheduler):
    loop = _loop(Batch(scheduler, ScriptedRunner()))
    yield loop
    loop.end()
    await asyncio.to_thread(loop.join)


async def test_many_generations_are_served(loop):
    generations = [make_generation(limit=5) for _ in range(7)]
    for generation in generations:
        loop.submit(generation)
    for generation in generations:
        events = await _read(generation)
        assert isinstance(events[0], Started)
        assert sum(event.tokens for event in events[1:-1]) == 5


async def test_work_for_later_is_done_where_there_is_nothing_to_compute(scheduler):
    pieces, done, is_done = iter([True, True, True]), [], threading.Event()

    def prepare():
        done.append(scheduler.running)
        if more := next(pieces, False):
            return more
        is_done.set()
        return False

    loop = _loop(Batch(scheduler, ScriptedRunner(), prepare=prepare))
    generation = make_generation(limit=5)
    loop.submit(generation)
    await _read(generation)
    assert await asyncio.to_thread(is_done.wait, 20)
    loop.end()
    await asyncio.to_thread(loop.join)
    assert len(done) >= 4
    assert not any(done)


async def test_work_for_later_that_fails_is_not_tried_again(scheduler):
    tries = []

    def prepare():
        tries.append(1)
        raise MemoryError("no more")

    loop = _loop(Batch(scheduler, ScriptedRunner(), prepare=prepare))
    generation = make_generation(limit=5)
    loop.submit(generation)
    await _read(generation)
    loop.end()
    await asyncio.to_thread(loop.join)
    assert len(tries) <= 1


async def test_what_was_loaded_is_told(loop):
    assert await asyncio.wrap_future(loop.loaded) == "the card"


async def test_an_error_while_loading_is_told_and_the_thread_ends():
    def load():
        raise MemoryError("too big")

    released = threading.Event()
    loop = Loop(load, released.set, Post(asyncio.get_running_loop()))
    with pytest.raises(MemoryError):
        await asyncio.wrap_future(loop.loaded)
    await asyncio.to_thread(loop.join)
    assert released.is_set()
    with pytest.raises(Unavailable):
        loop.submit(make_generation())


async def test_the_batch_is_gone_when_the_memory_is_released():
    batch = Batch(_scheduler(), ScriptedRunner())
    reference, gone = weakref.ref(batch), []
    loaded = [(batch, "the card")]
    del batch
    loop = Loop(loaded.pop, lambda: gone.append(reference() is None), Post(asyncio.get_running_loop()))
    loop.end()
    await asyncio.to_thread(loop.join)
    assert gone == [True]


async def test_a_bug_outside_of_a_generation_fails_those_inside_and_the_loop_lives_on(loop, scheduler, caplog):
    scheduler.broken = True
    generation = make_generation()
    loop.submit(generation)
    with pytest.raises(Unavailable):
        await generation.mailbox.get()
    scheduler.broken = False
    again = make_generation()
    loop.submit(again)
    assert isinstance((await _read(again))[-1], Finished)
    assert "a step failed" in caplog.text


async def test_what_was_said_before_a_step_broke_still_arrives():
    loop = _loop(_BreaksAtTheEnd(_scheduler(), ScriptedRunner()))
    whole, cut = make_generation(limit=1), make_generation(limit=2)
    loop.submit(whole)
    assert isinstance((await _read(whole))[-1], Finished)
    loop.submit(cut)
    with pytest.raises(Unavailable):
        await _read(cut)
    loop.end()
    await asyncio.to_thread(loop.join)


async def test_an_exit_that_a_step_raises_ends_its_generation_and_not_the_thread():
    runner, generation, other = ScriptedRunner(), make_generation(), make_generation()
    runner.faults[generation.sequence] = SystemExit()
    loop = _loop(Batch(_scheduler(), runner))
    loop.submit(generation)
    with pytest.raises(EngineError):
        await _read(generation)
    assert loop.alive
    loop.submit(other)
    await _read(other)
    loop.end()
    await asyncio.to_thread(loop.join)


async def test_ending_turns_away_what_runs_and_what_waits(loop, scheduler):
    generations = [make_generation(limit=10**9) for _ in range(3)]
    for generation in generations:
        loop.submit(generation)
    assert isinstance(await generations[0].mailbox.get(), Started)
    loop.end()
    await asyncio.to_thread(loop.join)
    assert (scheduler.running, scheduler.waiting) == (0, 0)
    for generation in generations:
        with pytest.raises(Unavailable):
            await _read(generation)


async def test_a_loop_that_has_ended_takes_nothing(loop):
    loop.end()
    await asyncio.to_thread(loop.join)
    assert not loop.alive
    with pytest.raises(Unavailable):
        loop.submit(make_generation())
    loop.cancel(make_generation())


async def test_nothing_is_lost_between_the_last_order_and_the_end():
    for _ in range(30):
        loop = _loop(Batch(_scheduler(), ScriptedRunner()))
        generations = [make_generation(limit=10**9) for _ in range(8)]
        ender = threading.Thread(target=loop.end)
        ender.start()
        accepted = []
        for generation in generations:
            try:
                loop.submit(generation)
            except Unavailable:
                continue
            accepted.append(generation)
        ender.join()
        await asyncio.to_thread(loop.join)
        for generation in accepted:
            with pytest.raises(Unavailable):
                await asyncio.wait_for(_read(generation), 10)


async def test_a_cancelled_generation_leaves_while_another_goes_on(loop, scheduler):
    staying, leaving = make_generation(limit=10**9), make_generation(limit=10**9)
    loop.submit(staying)
    loop.submit(leaving)
    await leaving.mailbox.get()
    loop.cancel(leaving)
    async with asyncio.timeout(20):
        while scheduler.running != 1:  # noqa: ASYNC110 - the other thread sets no event
            await asyncio.sleep(0)
    await staying.mailbox.get()
    assert scheduler.running == 1


async def test_what_stands_by_waits_for_quiet_and_shows_that_it_lives(loop):
    standing, asked = make_generation(limit=3), make_generation(limit=3)
    standing.quiet, standing.sequence.standby = 3600.0, True
    loop.submit(asked)
    await _read(asked)
    loop.submit(standing)
    async with asyncio.timeout(20):
        while not loop.naps:  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.01)
    again = make_generation(limit=3)
    loop.submit(again)  # an order ends the nap at once
    assert isinstance((await _read(again))[-1], Finished)
    loop.cancel(standing)
    last = make_generation(limit=1)
    loop.submit(last)
    assert isinstance((await _read(last))[-1], Finished)
