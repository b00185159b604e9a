"""The line of texts: by turns, each to its end, and a fault is the fault of one."""

import asyncio
import threading

import pytest

from gateway.engine import EngineError, Unavailable
from gateway_hf.embedding.batcher import Batcher
from gateway_hf.embedding.encoder import TokenRow


class Computing:
    """Computes when it is let to, and keeps what each round had."""

    def __init__(self, *, free=True):
        self.rounds = []
        self.go = threading.Event()
        self.begun = threading.Event()
        if free:
            self.go.set()

    def __call__(self, rows):
        self.rounds.append([tuple(row.ids) for row in rows])
        self.begun.set()
        assert self.go.wait(60)
        if any(13 in row.ids for row in rows):
            raise RuntimeError("thirteen")
        return [bytes(row.ids) for row in rows]


def rows(*texts):
    return [TokenRow(ids) for ids in texts]


async def until(look):
    async with asyncio.timeout(60):
        while not look():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_each_request_gets_its_own_vectors_in_order():
    batcher = Batcher(Computing(), 4)
    asked = [rows((1, 1), (2,), (3, 3, 3, 3, 3, 3)), rows((4,)), rows(*[(5, 6)] * 9)]
    made = await asyncio.gather(*map(batcher.compute, asked))
    assert made == [[bytes(row.ids) for row in each] for each in asked]
    await batcher.close()


async def test_a_round_takes_of_each_request_by_turns_so_that_a_short_one_passes_a_long_one():
    computing = Computing(free=False)
    batcher = Batcher(computing, 4)
    long = asyncio.create_task(batcher.compute(rows(*[(number,) for number in range(20, 30)])))
    await until(computing.begun.is_set)
    short = asyncio.create_task(batcher.compute(rows((1,), (2,))))
    await until(lambda: batcher.waiting == 2)
    computing.go.set()
    await short
    assert {(1,), (2,)} <= set(computing.rounds[1])
    assert len(computing.rounds[1]) == 4
    await long
    await batcher.close()


async def test_what_cannot_be_computed_fails_alone():
    computing = Computing(free=False)
    batcher = Batcher(computing, 1_000)
    first = asyncio.create_task(batcher.compute(rows((1,))))
    await until(computing.begun.is_set)
    bad, good = (asyncio.create_task(batcher.compute(each)) for each in (rows((2,), (13,)), rows((3,))))
    await until(lambda: batcher.waiting == 2)
    computing.go.set()
    assert await first == [b"\1"]
    assert await good == [b"\3"]
    with pytest.raises(EngineError, match="the log says why"):
        await bad
    assert await batcher.compute(rows((4,))) == [b"\4"]
    await batcher.close()


async def test_a_request_that_leaves_is_computed_no_further():
    computing = Computing(free=False)
    batcher = Batcher(computing, 1)
    leaving = asyncio.create_task(batcher.compute(rows((1,), (2,), (3,))))
    await until(computing.begun.is_set)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    computing.go.set()
    assert await batcher.compute(rows((4,))) == [b"\4"]
    assert computing.rounds == [[(1,)], [(4,)]]
    await batcher.close()


async def test_closing_turns_away_what_waits():
    computing = Computing(free=False)
    batcher = Batcher(computing, 1)
    waiting = asyncio.create_task(batcher.compute(rows((1,), (2,))))
    await until(computing.begun.is_set)
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(Unavailable, match="unloaded"):
        await waiting
    computing.go.set()
    await closing
    with pytest.raises(Unavailable):
        await batcher.compute(rows((3,)))
