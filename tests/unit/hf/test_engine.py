"""What the engine answers and refuses; over a tiny real model."""

import threading

import pytest

from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    Delta,
    Finished,
    FinishReason,
    InvalidRequest,
    Message,
    Sampling,
    Started,
    Text,
    Tokens,
    collect,
)
from gateway_hf import plugin
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from gateway_hf.text.codec import TextCodec
from tests.support.hf_engine import ask
from tests.support.tiny_models import CONTEXT, VOCABULARY, make_tiny


@pytest.fixture
def folder(tiny):
    return tiny("llama")


@pytest.fixture
def settings(folder):
    return Settings(model=str(folder), dtype="float32", places=2, cache_tokens=1024)


@pytest.fixture
async def engine(settings):
    async with HfEngine(settings) as engine:
        yield engine


async def test_the_plugin_builds_the_engine(settings):
    assert isinstance(plugin.build(settings), HfEngine)


async def test_an_answer_is_started_deltas_and_finished(engine):
    events = [event async for event in engine.generate(ask())]
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
    assert (card.places, card.cache_tokens, card.dtype, card.device) == (2, 1024 + BLOCK, "float32", "cpu")
    assert {Capability.CHAT, Capability.COMPLETION, Capability.TOKENS, Capability.SEED} <= card.capabilities
    assert {Capability.LOGPROBS, Capability.PROMPT_LOGPROBS} <= card.capabilities
    assert {Capability.JSON_SCHEMA, Capability.REGEX, Capability.GRAMMAR} <= card.capabilities
    assert Capability.VISION not in card.capabilities


async def test_a_model_without_a_template_does_not_chat(tmp_path):
    async with HfEngine(Settings(model=str(make_tiny("gpt2", tmp_path)), dtype="float32")) as engine:
        (card,) = engine.models()
        assert Capability.CHAT not in card.capabilities


async def test_a_chat_is_answered(engine):
    chat = Chat((Message("user", (Text("What is the capital of France?"),)),))
    answer = await collect(engine.generate(ask(chat)))
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
        await anext(engine.generate(ask(prompt, sampling)))
    assert type(caught.value) is error
    assert (await engine.status()).running == 0


async def test_prompts_are_read_in_a_thread_of_their_own(engine, monkeypatch):
    encode, threads = TextCodec.encode, []
    monkeypatch.setattr(
        TextCodec,
        "encode",
        lambda text, *read: threads.append(threading.current_thread().name) or encode(text, *read),
    )
    await collect(engine.generate(ask()))
    await engine.count_tokens("m", Completion("a"))
    assert len(threads) == 2
    assert all(name.startswith("hf-reader") for name in threads)


async def test_a_stop_token_ends_the_answer_and_is_named(engine):
    drawn = await collect(engine.generate(ask(sampling=Sampling(max_tokens=8, temperature=0.0, logprobs=2))))
    ids = [token.id for token in drawn.logprobs]
    assert all(token.logprob == token.top[0].logprob for token in drawn.logprobs)
    end = Sampling(max_tokens=8, temperature=0.0, stop_token_ids=(ids[3],))
    answer = await collect(engine.generate(ask(sampling=end)))
    assert answer.finished.stop == ids[3]
    assert answer.finished.reason is FinishReason.STOP
    assert answer.finished.usage.completion_tokens == ids.index(ids[3]) + 1
    assert drawn.text.startswith(answer.text)


async def test_the_least_tokens_are_drawn_before_a_stop_token_can_be(engine):
    everything_else = {token: -100.0 for token in range(VOCABULARY) if token != 9}
    sampling = Sampling(
        max_tokens=9, min_tokens=3, temperature=0.0, stop_token_ids=(9,), logit_bias=everything_else, logprobs=0
    )
    answer = await collect(engine.generate(ask(sampling=sampling)))
    assert (answer.finished.stop, answer.finished.usage.completion_tokens) == (9, 4)
    assert 9 not in [token.id for token in answer.logprobs]
