"""A generation that fails or is left frees its place and disturbs nobody; over a tiny real model."""

import asyncio
import contextlib
import math
import shutil

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from gateway.engine import (
    EngineError,
    FinishReason,
    Sampling,
    Tokens,
    collect,
)
from gateway_hf import batch
from gateway_hf.compute.short_pass import ShortForward
from gateway_hf.engine import HfEngine
from gateway_hf.loop import Loop
from gateway_hf.sampling.sampler import Draws
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.settings import Settings
from gateway_hf.text.codec import TextCodec
from tests.support.hf_engine import LONG, Gate, ask, numbers, until


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
    logits = ShortForward.logits
    monkeypatch.setattr(ShortForward, "logits", lambda *_: 1 / 0)
    with pytest.raises(EngineError) as caught:
        await collect(engine.generate(ask()))
    assert type(caught.value) is EngineError
    assert "division" not in caught.value.message
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.setattr(ShortForward, "logits", logits)
    assert (await collect(engine.generate(ask()))).finished.reason is FinishReason.LENGTH


_POISON = 77


def _no_numbers(monkeypatch):
    """Let the logits of one sequence be no numbers after a few tokens."""
    right = ShortForward.logits

    def logits(forward, chunks):
        said, counts = right(forward, chunks)
        for chunk, rows in zip(chunks, said.split(counts), strict=True):
            if _poisoned(chunk.sequence):
                rows.fill_(math.nan)
        return said, counts

    monkeypatch.setattr(ShortForward, "logits", logits)


def _raising_forward(monkeypatch):
    """Let every pass raise that one sequence takes part in."""
    right = ShortForward.logits

    def logits(forward, chunks):
        if any(_poisoned(chunk.sequence) for chunk in chunks):
            raise ZeroDivisionError
        return right(forward, chunks)

    monkeypatch.setattr(ShortForward, "logits", logits)


def _broken_draws(monkeypatch):
    """Let the state that one sequence is drawn with be broken."""
    right = Draws.adjust
    monkeypatch.setattr(Draws, "adjust", lambda draws, row: right(draws, row) if draws.terms.seed != _POISON else 1 / 0)


def _poisoned(sequence):
    return sequence.tokens[0] == _POISON and len(sequence.tokens) > sequence.prompt_tokens + 2


class Panic(BaseException):
    """As a library in Rust raises it: no `Exception`."""


def _panicking_forward(monkeypatch):
    """Let every pass panic that one sequence takes part in."""
    right = ShortForward.logits

    def logits(forward, chunks):
        if any(_poisoned(chunk.sequence) for chunk in chunks):
            raise Panic
        return right(forward, chunks)

    monkeypatch.setattr(ShortForward, "logits", logits)


def _panicking_writer(monkeypatch):
    """Let the tokenizer panic where it decodes one sequence."""
    right = batch._write

    def write(generation, drawn):
        if _poisoned(generation.sequence):
            raise Panic
        return right(generation, drawn)

    monkeypatch.setattr(batch, "_write", write)


@pytest.mark.parametrize(
    "poison", [_no_numbers, _raising_forward, _broken_draws, _panicking_forward, _panicking_writer]
)
async def test_a_poisoned_sequence_fails_alone_and_seven_end_with_their_text(folder, monkeypatch, poison):
    sampling = Sampling(max_tokens=30, ignore_eos=True, temperature=0.0)
    good = [ask(Tokens((6 + at, *range(5, 25 + at))), sampling) for at in range(7)]
    bad = ask(Tokens((_POISON, 6, 7)), msgspec.structs.replace(LONG, seed=_POISON))
    async with HfEngine(Settings(model=str(folder), dtype="float32", places=8)) as engine:
        alone = [await collect(engine.generate(each)) for each in good]
        poison(monkeypatch)
        *beside, failed = await asyncio.gather(
            *[collect(engine.generate(each)) for each in (*good, bad)], return_exceptions=True
        )
        assert [(each.text, each.finished.reason) for each in beside] == [
            (each.text, each.finished.reason) for each in alone
        ]
        assert type(failed) is EngineError
        await until(engine, running=0, cache_used=0)


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


async def test_a_step_that_panics_ends_what_runs_and_the_engine_goes_on(engine, monkeypatch):
    plan = Scheduler.plan

    def panic(_):
        monkeypatch.setattr(Scheduler, "plan", plan)
        raise Panic

    monkeypatch.setattr(Scheduler, "plan", panic)
    async with asyncio.timeout(20):
        with pytest.raises(EngineError, match="start over"):
            await collect(engine.generate(ask()))
        assert (await collect(engine.generate(ask()))).finished.reason is FinishReason.LENGTH


async def test_a_panic_while_a_prompt_is_read_is_of_that_prompt(engine, monkeypatch):
    encode = TextCodec.encode

    def panic(codec, prompt, *cut):
        if prompt == ask("poison").prompt:
            raise Panic
        return encode(codec, prompt, *cut)

    monkeypatch.setattr(TextCodec, "encode", panic)
    async with asyncio.timeout(20):
        with pytest.raises(Panic):
            await collect(engine.generate(ask("poison")))
        assert (await collect(engine.generate(ask()))).finished.reason is FinishReason.LENGTH


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
            await gate.reached()  # by the first one, before there is another to prefer
        gate.open.set()
    assert order == ["first", "high", "low"]


@pytest.mark.parametrize("kernels", ["auto", "off"])
async def test_a_token_whose_weights_are_no_numbers_fails_its_request_alone(folder, tmp_path, kernels):
    """Also those fail not that later have the blocks in which its keys and values were."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors")
    tensors["model.embed_tokens.weight"][350, 3] = math.nan
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    asked = [ask(Tokens(tuple(numbers(21, seed)))) for seed in range(16)]

    def small(model):
        return HfEngine(
            Settings(model=str(model), dtype="float32", kernels=kernels, places=4, cache_tokens=256, context_window=120)
        )

    async with small(folder) as engine:
        wanted = [(await collect(engine.generate(each))).text for each in asked]
    said = []
    async with small(copy) as engine:
        for at in range(0, len(asked), 2):
            bad = ask(Tokens((*numbers(5, 100 + at), 350, *numbers(60, 200 + at))))
            tasks = [asyncio.create_task(collect(engine.generate(each))) for each in (bad, *asked[at : at + 2])]
            failed, *right = await asyncio.gather(*tasks, return_exceptions=True)
            assert type(failed) is EngineError
            assert failed.message == "the model computed no valid probabilities for the next token"
            said += [each.text for each in right]
    assert said == wanted
