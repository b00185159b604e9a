"""The engine's life: load, serve, cancel, fail, unload; over a tiny real model."""

import asyncio
import contextlib
import math
import threading

import psutil
import pytest
import torch
from gateway_hf import plugin, weights
from gateway_hf.engine import HfEngine
from gateway_hf.loop import Loop
from gateway_hf.runner import Runner
from gateway_hf.settings import Settings
from gateway_hf.text import TextCodec

from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateRequest,
    Health,
    InvalidRequest,
    LoadFailed,
    Message,
    Sampling,
    Started,
    Text,
    Tokens,
    Unavailable,
    collect,
)
from tests.support.tiny_models import CONTEXT, VOCABULARY, make_tiny

_LONG = Sampling(max_tokens=240, ignore_eos=True, temperature=0.0)
_SHORT = Sampling(max_tokens=4, ignore_eos=True, temperature=0.0)


def _ask(prompt="Once upon a time", sampling=_SHORT, priority=0):
    prompt = Completion(prompt) if isinstance(prompt, str) else prompt
    return GenerateRequest(id="t", model="m", prompt=prompt, sampling=sampling, priority=priority)


async def _until(engine, **wanted):
    """Wait until the status says what is wanted."""
    async with asyncio.timeout(20):
        while True:
            status = await engine.status()
            if all(getattr(status, name) == value for name, value in wanted.items()):
                return
            await asyncio.sleep(0.001)


class _Gate:
    """Holds the engine's thread inside a forward."""

    def __init__(self, monkeypatch):
        self.inside, self.open = threading.Event(), threading.Event()
        forward = Runner._forward

        def held(runner, *args):
            self.inside.set()
            assert self.open.wait(20)
            return forward(runner, *args)

        monkeypatch.setattr(Runner, "_forward", held)

    async def reached(self):
        assert await asyncio.to_thread(self.inside.wait, 20)


@pytest.fixture
def gate(monkeypatch):
    gate = _Gate(monkeypatch)
    yield gate
    gate.open.set()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def settings(folder):
    return Settings(model=str(folder), dtype="float32", places=2)


@pytest.fixture
async def engine(settings):
    async with HfEngine(settings) as engine:
        yield engine


async def test_the_plugin_builds_the_engine(settings):
    assert isinstance(plugin.build(settings), HfEngine)


async def test_an_answer_is_started_deltas_and_finished(engine):
    events = [event async for event in engine.generate(_ask())]
    started, *deltas, finished = events
    assert isinstance(started, Started)
    assert started.cached_tokens == 0
    assert started.prompt_tokens == await engine.count_tokens("m", Completion("Once upon a time"))
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert finished == Finished(FinishReason.LENGTH, finished.usage)
    assert sum(delta.tokens for delta in deltas) == finished.usage.completion_tokens == 4
    assert finished.usage.prompt_tokens == started.prompt_tokens


async def test_the_card_says_what_is_served(engine, settings):
    (card,) = engine.models()
    assert (card.context_window, card.vocabulary) == (CONTEXT, VOCABULARY)
    assert (card.places, card.cache_tokens, card.dtype, card.device) == (2, 2 * CONTEXT, "float32", "cpu")
    assert {Capability.CHAT, Capability.COMPLETION, Capability.TOKENS, Capability.SEED} <= card.capabilities
    assert not {Capability.TOOLS, Capability.JSON_SCHEMA, Capability.PROMPT_LOGPROBS} & card.capabilities


async def test_a_model_without_a_template_does_not_chat(tmp_path):
    async with HfEngine(Settings(model=str(make_tiny("gpt2", tmp_path)), dtype="float32")) as engine:
        (card,) = engine.models()
        assert Capability.CHAT not in card.capabilities


async def test_a_chat_is_answered(engine):
    chat = Chat((Message("user", (Text("What is the capital of France?"),)),))
    answer = await collect(engine.generate(_ask(chat)))
    assert answer.started.prompt_tokens == await engine.count_tokens("m", chat)


@pytest.mark.parametrize(
    ("prompt", "sampling", "error"),
    [
        (Tokens((5,) * (CONTEXT + 44)), Sampling(), ContextTooLong),
        (Tokens((5,) * 10), Sampling(max_tokens=CONTEXT), ContextTooLong),
        (Tokens((5,) * 10), Sampling(max_length=10), InvalidRequest),
        (Tokens((VOCABULARY,)), Sampling(), InvalidRequest),
        (Tokens(()), Sampling(), InvalidRequest),
        ("a", Sampling(logit_bias={VOCABULARY: 1.0}), InvalidRequest),
        ("a", Sampling(stop_token_ids=(-1,)), InvalidRequest),
    ],
)
async def test_the_impossible_is_refused_before_anything_starts(engine, prompt, sampling, error):
    with pytest.raises(error) as caught:
        await anext(engine.generate(_ask(prompt, sampling)))
    assert type(caught.value) is error
    assert (await engine.status()).running == 0


async def test_prompts_are_read_in_a_thread_of_their_own(engine, monkeypatch):
    encode, threads = TextCodec.encode, []
    monkeypatch.setattr(
        TextCodec,
        "encode",
        lambda text, prompt: threads.append(threading.current_thread().name) or encode(text, prompt),
    )
    await collect(engine.generate(_ask()))
    await engine.count_tokens("m", Completion("a"))
    assert len(threads) == 2
    assert all(name.startswith("hf-reader") for name in threads)


async def test_a_stop_token_ends_the_answer_and_is_named(engine):
    drawn = await collect(engine.generate(_ask(sampling=Sampling(max_tokens=8, temperature=0.0, logprobs=2))))
    ids = [token.id for token in drawn.logprobs]
    assert all(token.logprob == token.top[0].logprob for token in drawn.logprobs)
    end = Sampling(max_tokens=8, temperature=0.0, stop_token_ids=(ids[3],))
    answer = await collect(engine.generate(_ask(sampling=end)))
    assert answer.finished.stop == ids[3]
    assert answer.finished.reason is FinishReason.STOP
    assert answer.finished.usage.completion_tokens == ids.index(ids[3]) + 1
    assert drawn.text.startswith(answer.text)


async def test_the_least_tokens_are_drawn_before_a_stop_token_can_be(engine):
    everything_else = {token: -100.0 for token in range(VOCABULARY) if token != 9}
    sampling = Sampling(
        max_tokens=9, min_tokens=3, temperature=0.0, stop_token_ids=(9,), logit_bias=everything_else, logprobs=0
    )
    answer = await collect(engine.generate(_ask(sampling=sampling)))
    assert (answer.finished.stop, answer.finished.usage.completion_tokens) == (9, 4)
    assert 9 not in [token.id for token in answer.logprobs]


async def test_a_failing_forward_is_a_typed_error_and_the_next_request_is_served(engine, monkeypatch, caplog):
    forward = Runner._forward
    monkeypatch.setattr(Runner, "_forward", lambda *_: 1 / 0)
    with pytest.raises(EngineError) as caught:
        await collect(engine.generate(_ask()))
    assert type(caught.value) is EngineError
    assert "division" not in caught.value.message
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.setattr(Runner, "_forward", forward)
    assert (await collect(engine.generate(_ask()))).finished.reason is FinishReason.LENGTH


async def test_a_poisoned_sequence_fails_alone(engine, monkeypatch):
    forward = Runner._forward
    poison = 77

    def poisoned(runner, sequence, tokens):
        logits = forward(runner, sequence, tokens)
        bad = sequence.tokens[0] == poison and len(sequence.tokens) > sequence.prompt_tokens + 2
        return logits * math.nan if bad else logits

    good = _ask(Tokens((5, 6, 7)), Sampling(max_tokens=30, ignore_eos=True, temperature=0.0))
    alone = await collect(engine.generate(good))
    monkeypatch.setattr(Runner, "_forward", poisoned)
    bad = _ask(Tokens((poison, 6, 7)), _LONG)
    beside, failed = await asyncio.gather(
        collect(engine.generate(good)), collect(engine.generate(bad)), return_exceptions=True
    )
    assert (beside.text, beside.finished) == (alone.text, alone.finished)
    assert type(failed) is EngineError
    await _until(engine, running=0)


async def test_a_reader_that_is_cancelled_during_prefill_frees_its_place(engine, gate):
    reader = asyncio.create_task(collect(engine.generate(_ask(sampling=_LONG))))
    await gate.reached()
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    gate.open.set()
    await _until(engine, running=0, waiting=0, cache_used=0)


async def test_a_reader_that_is_cancelled_in_the_line_leaves_it(engine, gate):
    readers = [asyncio.create_task(collect(engine.generate(_ask(sampling=_LONG)))) for _ in range(3)]
    await gate.reached()
    gate.open.set()
    await _until(engine, running=2, waiting=1)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await _until(engine, running=0, waiting=0)


@pytest.mark.parametrize("events", [1, 2, 5])
async def test_closing_the_stream_frees_its_place(engine, events):
    stream = engine.generate(_ask(sampling=_LONG))
    for _ in range(events):
        await anext(stream)
    await stream.aclose()
    await _until(engine, running=0, waiting=0, cache_used=0)


async def test_higher_priority_is_served_first(folder, gate, monkeypatch):
    submit, submitted, order = Loop.submit, [], []
    monkeypatch.setattr(Loop, "submit", lambda loop, each: (submit(loop, each), submitted.append(each)))

    async def read(name, priority):
        await collect(engine.generate(_ask(priority=priority)))
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


async def test_before_it_is_entered_and_after_it_was_left_nothing_is_served(settings):
    engine = HfEngine(settings)
    for _ in range(2):
        assert (await engine.status()).health is Health.UNLOADED
        assert engine.models() == ()
        with pytest.raises(Unavailable):
            await anext(engine.generate(_ask()))
        with pytest.raises(Unavailable):
            await engine.count_tokens("m", Completion("a"))
        async with engine:
            assert (await engine.status()).health is Health.READY


async def test_leaving_ends_what_runs_and_twice_is_harmless(settings):
    engine = HfEngine(settings)
    await engine.__aenter__()
    stream = engine.generate(_ask(sampling=_LONG))
    await anext(stream)
    await engine.__aexit__(None, None, None)
    with pytest.raises(Unavailable):
        await collect(stream)
    await engine.__aexit__(None, None, None)
    status = await engine.status()
    assert (status.health, status.running, status.waiting) == (Health.UNLOADED, 0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hf-")]


async def test_an_engine_may_be_entered_again(settings):
    engine = HfEngine(settings)
    answers = []
    for _ in range(2):
        async with engine:
            answers.append((await collect(engine.generate(_ask()))).text)
    assert answers[0] == answers[1]


async def test_a_model_that_cannot_load_says_so(tmp_path):
    engine = HfEngine(Settings(model=str(tmp_path)))
    with pytest.raises(LoadFailed) as caught:
        await engine.__aenter__()
    status = await engine.status()
    assert (status.health, status.detail) == (Health.FAILED, caught.value.message)
    assert "\n" not in status.detail
    with pytest.raises(Unavailable):
        await anext(engine.generate(_ask()))
    await engine.__aexit__(None, None, None)


async def test_the_event_loop_is_free_while_the_model_loads(settings, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    monkeypatch.setattr("gateway_hf.weights.load", lambda _: (entered.set(), leave.wait(20), 1 / 0))
    engine = HfEngine(settings)
    loading = asyncio.create_task(engine.__aenter__())
    await asyncio.to_thread(entered.wait, 20)
    assert (await engine.status()).health is Health.STARTING
    with pytest.raises(Unavailable, match="loading"):
        await anext(engine.generate(_ask()))
    leave.set()
    with pytest.raises(LoadFailed) as caught:
        await loading
    assert "division" not in caught.value.message
    assert (await engine.status()).health is Health.FAILED


async def test_loading_can_be_given_up(settings, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    load = weights.load

    def slow(settings):
        entered.set()
        assert leave.wait(20)
        return load(settings)

    monkeypatch.setattr("gateway_hf.weights.load", slow)
    engine = HfEngine(settings)
    loading = asyncio.create_task(engine.__aenter__())
    await asyncio.to_thread(entered.wait, 20)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert (await engine.status()).health is Health.UNLOADED
    leave.set()
    async with asyncio.timeout(20):
        while [thread for thread in threading.enumerate() if thread.name == "hf-loop"]:  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.01)


async def test_unloading_gives_the_memory_back(capsys):
    memory = psutil.Process().memory_info
    engine = HfEngine(Settings(dtype="float32"))
    async with engine:
        await collect(engine.generate(_ask(sampling=_SHORT)))
        loaded = memory().rss
    left = memory().rss
    with capsys.disabled():
        print(f"\nRSS with the built-in model {loaded >> 20} MiB, after it was unloaded {left >> 20} MiB")
    size = 135_000_000 * torch.finfo(torch.float32).bits // 8
    assert loaded - left > size * 0.7
