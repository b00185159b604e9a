"""Levels one after the other, warm-up, and interruption."""

import asyncio

from gateway.cli.bench.plan import LoadLevel, Plan
from gateway.cli.bench.sample import Sample
from gateway.cli.bench.sweep import Silence, sweep


class Watch:
    def __init__(self):
        self.seen = []

    def begin(self, level):
        self.seen.append(level.name)

    def see(self, sample):
        self.seen.append(sample.output_tokens)


def plan(*levels, **changes):
    return Plan(url="", levels=levels, output_tokens=1, **changes)


def asker(asked):
    async def ask(number, due):
        asked.append(number)
        await asyncio.sleep(0)
        return Sample(due=0.0, sent=0.0, first=0.5, ended=1.0 + number, output_tokens=number)

    return ask


async def test_no_two_requests_of_a_run_have_one_number():
    asked = []
    levels = [LoadLevel(clients=1), LoadLevel(clients=4), LoadLevel(rate=900.0, requests=5)]
    reports = [report async for report in sweep(plan(*levels, warmup=2), asker(asked), Silence())]
    assert [report.requests for report in reports] == [4, 16, 5]
    assert sorted(asked) == list(range(4 + 16 + 5 + 3 * 2))


async def test_warm_up_is_not_counted():
    watch = Watch()
    reports = [found async for found in sweep(plan(LoadLevel(clients=1, requests=2), warmup=3), asker([]), watch)]
    assert watch.seen == ["1", 3, 4]
    assert reports[0].output_tokens == 7


async def test_there_may_be_no_warm_up():
    asked = []
    assert [found async for found in sweep(plan(LoadLevel(clients=1, requests=1), warmup=0), asker(asked), Silence())]
    assert asked == [0]


async def test_a_report_says_how_many_ran_at_a_time_and_what_it_took():
    (found,) = [found async for found in sweep(plan(LoadLevel(clients=4)), asker([]), Silence())]
    assert found.peak == 4
    assert found.client_cpu > 0
    assert found.interrupted is False


async def test_an_interrupted_level_is_reported_as_far_as_it_went_and_is_the_last():
    reached = asyncio.Event()

    async def ask(number, due):
        if number == 3:
            reached.set()
            await asyncio.Event().wait()
        return Sample(due=0.0, sent=0.0, ended=1.0, output_tokens=1)

    async def run():
        levels = (LoadLevel(clients=1, requests=9), LoadLevel(clients=2))
        return [found async for found in sweep(plan(*levels, warmup=0), ask, Silence())]

    task = asyncio.create_task(run())
    await reached.wait()
    task.cancel()
    (found,) = await task
    assert (found.requests, found.interrupted) == (3, True)


async def test_an_interruption_while_warming_up_reports_nothing():
    reached = asyncio.Event()

    async def ask(number, due):
        reached.set()
        await asyncio.Event().wait()

    async def run():
        return [found async for found in sweep(plan(LoadLevel(clients=1)), ask, Silence())]

    task = asyncio.create_task(run())
    await reached.wait()
    task.cancel()
    assert await task == []
