"""Answers of a replica collect the longer, the more there are, and an end waits for nothing."""

import asyncio

import msgspec
import pytest

from gateway.engine import Delta, Ended, Failure, Finished, FinishReason, Health, Started, Status, Usage, decode, encode
from gateway_ray.runs import RUN, EventRun, RunPace


@pytest.mark.parametrize("status", [None, Status(health=Health.READY, cache_used=3)])
def test_a_run_crosses_as_it_was(status):
    said = [
        Started(3),
        Delta("a", tokens=2),
        Finished(FinishReason.STOP, Usage(3, 2)),
        Ended(),
        Failure("overloaded", "x"),
    ]
    run = EventRun("replica", status, said)
    assert decode(encode(run), RUN) == run
    with pytest.raises(msgspec.ValidationError):
        RUN.decode(msgspec.msgpack.encode(["replica", None, [["unknown"]]]))


async def test_the_pace_follows_the_number_of_answers(monkeypatch):
    waits = []

    async def wait(tasks, timeout):  # noqa: ASYNC109 - as asyncio has it
        waits.append(timeout)

    monkeypatch.setattr("gateway_ray.runs.asyncio.wait", wait)
    pace = RunPace()
    for pace.answers in (1, 2, 16):
        await pace.wait(None)
    assert waits == [0.01, 0.02, 0.16]


async def test_an_end_is_not_waited_for():
    pace = RunPace()
    pace.answers = 10**9
    async with asyncio.timeout(60):
        await pace.wait(asyncio.create_task(asyncio.sleep(0)))
