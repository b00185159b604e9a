"""A generation that fails or is left frees its place and disturbs nobody; over a tiny real model."""

import asyncio
import contextlib
import math

import pytest

from gateway.engine import (
    EngineError,
    FinishReason,
    Sampling,
    Tokens,
    collect,
)
from gateway_hf.engine import HfEngine
from gateway_hf.loop import Loop
from gateway_hf.runner import Runner
from gateway_hf.settings import Settings
from tests.support.hf_engine import LONG, Gate, ask, until


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


@pytest.fixture
def folder(tiny):
    return tiny("llama")


@pytest.fixture
def settings(folder):
    return Settings(model=str(folder), dtype="float32", places=2)


@pytest.fixture
async def engine(settings):
    async with HfEngine(settings) as engine:
        yield engine


async def test_a_failing_forward_is_a_typed_error_and_the_next_request_is_served(engine, monkeypatch, caplog):
    forward = Runner._forward
    monkeypatch.setattr(Runner, "_forward", lambda *_: 1 / 0)
    with pytest.raises(EngineError) as caught:
        await collect(engine.generate(ask()))
    assert type(caught.value) is EngineError
    assert "division" not in caught.value.message
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.setattr(Runner, "_forward", forward)
    assert (await collect(engine.generate(ask()))).finished.reason is FinishReason.LENGTH


async def test_a_poisoned_sequence_fails_alone(engine, monkeypatch):
    forward = Runner._forward
    poison = 77

    def poisoned(runner, sequence, tokens):
        logits = forward(runner, sequence, tokens)
        bad = sequence.tokens[0] == poison and len(sequence.tokens) > sequence.prompt_tokens + 2
        return logits * math.nan if bad else logits

    good = ask(Tokens((5, 6, 7)), Sampling(max_tokens=30, ignore_eos=True, temperature=0.0))
    alone = await collect(engine.generate(good))
    monkeypatch.setattr(Runner, "_forward", poisoned)
    bad = ask(Tokens((poison, 6, 7)), LONG)
    beside, failed = await asyncio.gather(
        collect(engine.generate(good)), collect(engine.generate(bad)), return_exceptions=True
    )
    assert (beside.text, beside.finished) == (alone.text, alone.finished)
    assert type(failed) is EngineError
    await until(engine, running=0)


async def test_a_reader_that_is_cancelled_during_prefill_frees_its_place(engine, gate):
    reader = asyncio.create_task(collect(engine.generate(ask(sampling=LONG))))
    await gate.reached()
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    gate.open.set()
    await until(engine, running=0, waiting=0, cache_used=0)


async def test_a_reader_that_is_cancelled_in_the_line_leaves_it(engine, gate):
    readers = [asyncio.create_task(collect(engine.generate(ask(sampling=LONG)))) for _ in range(3)]
    await gate.reached()
    gate.open.set()
    await until(engine, running=2, waiting=1)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await until(engine, running=0, waiting=0)


@pytest.mark.parametrize("events", [1, 2, 5])
async def test_closing_the_stream_frees_its_place(engine, events):
    stream = engine.generate(ask(sampling=LONG))
    for _ in range(events):
        await anext(stream)
    await stream.aclose()
    await until(engine, running=0, waiting=0, cache_used=0)


async def test_higher_priority_is_served_first(folder, gate, monkeypatch):
    submit, submitted, order = Loop.submit, [], []
    monkeypatch.setattr(Loop, "submit", lambda loop, each: (submit(loop, each), submitted.append(each)))

    async def read(name, priority):
        await collect(engine.generate(ask(priority=priority)))
        order.append(name)

    async with (
        HfEngine(Settings(model=str(folder), dtype="float32", places=1)) as engine,
        asyncio.timeout(20),
        asyncio.TaskGroup() as readers,
    ):
        for count, (name, priority) in enumerate((("first", 0), ("low", 0), ("high", 1)), start=1):
            readers.create_task(read(name, priority))
            while len(submitted) < count:  # noqa: ASYNC110 - the list sets no event
                await asyncio.sleep(0.001)
        await gate.reached()
        gate.open.set()
    assert order == ["first", "high", "low"]
