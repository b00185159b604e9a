"""The scores of a prompt are those of one plain pass of the unchanged model, whatever runs and ran beside it."""

import asyncio
from contextlib import asynccontextmanager
from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM

from gateway.engine import Completion, Sampling, Tokens, collect
from gateway_hf.compute.attention import UnsupportedAttention
from gateway_hf.engine import HfEngine
from gateway_hf.runner import Runner
from gateway_hf.settings import Settings
from tests.support.hf_engine import Gate, ask, numbers, until
from tests.support.tiny_models import ARCHITECTURES, WINDOW

_CLOSE = {"rtol": 0, "atol": 1e-3}
_RANKS = 3
_LENGTHS = (1, 2, 16, 17, WINDOW, 2 * WINDOW, 75)
_CROWD = {"places": 8, "cache_tokens": 2048}


@pytest.fixture(scope="session")
def natural_of(tiny):
    """Say what a tiny model finds of ids: the log probabilities `[tokens - 1, vocabulary]` in their places."""
    model_of = cache(lambda name: AutoModelForCausalLM.from_pretrained(tiny(name), dtype=torch.float32).eval())

    @torch.inference_mode()
    def natural(name, ids):
        return model_of(name)(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)

    return natural


@pytest.fixture
def engine_of(tiny):
    @asynccontextmanager
    async def engine(name, **settings):
        async with HfEngine(Settings(model=str(tiny(name)), dtype="float32", **_CROWD | settings)) as engine:
            yield engine

    return engine


async def _score(engine, ids, ranks=_RANKS, new=1, **sampling):
    sampling = Sampling(max_tokens=new, prompt_logprobs=ranks, ignore_eos=True, **{"temperature": 0.0} | sampling)
    return await collect(engine.generate(ask(Tokens(tuple(ids)), sampling)))


def _check(natural, ids, answer, ranks=_RANKS):
    """Compare an answer's scores, and who is said to be likeliest, with what the model finds."""
    first, *told = answer.started.prompt_logprobs
    assert (first.logprob, first.top) == (0.0, ())
    assert [token.id for token in (first, *told)] == list(ids)
    own = natural.gather(1, torch.tensor(ids[1:], dtype=torch.long)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([token.logprob for token in told]), own, **_CLOSE)
    for token, row in zip(told, natural, strict=True):
        best = row.topk(ranks).values
        assert len(token.top) == ranks
        torch.testing.assert_close(torch.tensor([other.logprob for other in token.top]), best, **_CLOSE)
        torch.testing.assert_close(row[[other.id for other in token.top]], best, **_CLOSE)


async def _alone(engine, check):
    for length in _LENGTHS:
        ids = numbers(length, length)
        check(ids, await _score(engine, ids))


async def _together(engine, check):
    """Sixteen at once, on fewer places, beside answers that ask for no scores."""
    every = [numbers(3 + 5 * at, 20 + at) for at in range(16)]
    beside = [_score(engine, numbers(40, 90 + at), None, new=30, temperature=1.1, seed=at) for at in range(3)]
    answers = await asyncio.gather(
        *[_score(engine, ids, new=1 + 5 * (at % 2)) for at, ids in enumerate(every)], *beside
    )
    for ids, answer in zip(every, answers[: len(every)], strict=True):
        check(ids, answer)
    assert not [answer for answer in answers[len(every) :] if answer.started.prompt_logprobs is not None]


async def _cached(engine, check):
    """A prompt that the cache holds is read again for its scores, and is left there for others."""
    ids = numbers(2 * WINDOW + 5, 1)
    cached = (len(ids) - 1) // 16 * 16
    for ranks in (None, _RANKS, _RANKS, None):
        answer = await _score(engine, ids, ranks)
        assert answer.started.cached_tokens == answer.finished.usage.cached_tokens
        if ranks is not None:
            check(ids, answer)
    assert answer.started.cached_tokens == cached
    other = numbers(2 * WINDOW + 5, 2)
    check(other, await _score(engine, other))
    assert (await _score(engine, other, None)).started.cached_tokens == cached


async def _preempted(engine, check):
    every = [numbers(50 + at, 40 + at) for at in range(4)]
    answers = await asyncio.gather(*[_score(engine, ids, new=60) for ids in every])
    assert engine._running.served.scheduler.preemptions > 0
    for ids, answer in zip(every, answers, strict=True):
        check(ids, answer)


_CELLS = {
    "alone": (_alone, {}),
    "together": (_together, {}),
    "cached": (_cached, {}),
    "chunked": (_together, {"step_tokens": 16}),
    "preempted": (_preempted, {"places": 4, "cache_tokens": 256, "step_tokens": 24}),
}
_ALL_CELLS = [("llama", cell, kernels) for cell in _CELLS for kernels in ("auto", "off")]
_ALL_CELLS += [("gpt2", "chunked", "auto"), ("gemma2", "preempted", "off")]
_SLOW_CELLS = [(name, cell, "auto") for name in ARCHITECTURES if name != "llama" for cell in ("together", "chunked")]
_SLOW_CELLS += [(name, "preempted", "off") for name in ("gpt2", "mistral", "gemma2")]
_SLOW = [pytest.param(*cell, marks=pytest.mark.slow) for cell in _SLOW_CELLS if cell not in _ALL_CELLS]


@pytest.mark.parametrize(("name", "cell", "kernels"), _ALL_CELLS + _SLOW)
async def test_scores_are_those_of_a_plain_pass(engine_of, natural_of, name, cell, kernels):
    run, settings = _CELLS[cell]
    async with engine_of(name, kernels=kernels, **settings) as engine:
        assert engine.models()[0].note == ""
        await run(engine, lambda ids, answer: _check(natural_of(name, ids), ids, answer))
        assert engine._running.served.scheduler.cached == 0


@pytest.mark.parametrize("name", ["mistral", "gpt2"])
async def test_a_model_that_cannot_be_batched_scores_the_same(engine_of, natural_of, monkeypatch, name):
    def refuse(*_):
        raise UnsupportedAttention("it is a test")

    monkeypatch.setattr("gateway_hf.compute.fitting._adopt", refuse)
    async with engine_of(name, step_tokens=16) as engine:
        assert "one answer at a time" in engine.models()[0].note
        await _together(engine, lambda ids, answer: _check(natural_of(name, ids), ids, answer))


async def test_how_an_answer_is_drawn_changes_no_score(engine_of, natural_of):
    ids = numbers(30, 3)
    bias = {"logit_bias": {7: 50.0}, "repetition_penalty": 1.5, "temperature": 2.0, "top_k": 1, "seed": 1}
    async with engine_of("llama") as engine:
        _check(natural_of("llama", ids), ids, await _score(engine, ids, **bias))


async def test_without_ranks_only_the_token_itself_is_scored(engine_of, natural_of):
    ids = numbers(20, 4)
    async with engine_of("llama") as engine:
        _check(natural_of("llama", ids), ids, await _score(engine, ids, 0), 0)


async def test_an_answer_has_its_own_log_probabilities_beside_the_prompts(engine_of, natural_of):
    ids = numbers(20, 5)
    async with engine_of("llama") as engine:
        answer = await _score(engine, ids, new=6, logprobs=1)
    whole = [*ids, *[token.id for token in answer.logprobs]]
    natural = natural_of("llama", whole)
    _check(natural[: len(ids) - 1], ids, answer)
    own = natural.gather(1, torch.tensor(whole[1:])[:, None])[len(ids) - 1 :, 0]
    torch.testing.assert_close(torch.tensor([token.logprob for token in answer.logprobs]), own, **_CLOSE)


async def test_the_same_text_is_said_with_scores_and_without(engine_of):
    ids = numbers(40, 6)
    async with engine_of("llama") as engine:
        assert (await _score(engine, ids, new=20)).text == (await _score(engine, ids, None, new=20)).text


async def test_an_answer_that_stops_at_its_first_token_has_scores(engine_of, natural_of):
    ids = numbers(20, 7)
    async with engine_of("llama") as engine:
        drawn = await _score(engine, ids, logprobs=0)
        answer = await _score(engine, ids, stop_token_ids=(drawn.logprobs[0].id,))
    assert (answer.text, answer.finished.stop) == ("", drawn.logprobs[0].id)
    _check(natural_of("llama", ids), ids, answer)


async def test_who_leaves_while_its_prompt_is_scored_leaves_nothing(engine_of, natural_of, monkeypatch):
    ids = numbers(100, 8)
    async with engine_of("llama", step_tokens=16) as engine:
        gate = Gate(monkeypatch)
        left = asyncio.create_task(_score(engine, ids))
        await gate.reached()
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        gate.open.set()
        await until(engine, running=0, waiting=0, cache_used=0)
        _check(natural_of("llama", ids), ids, await _score(engine, ids))


async def test_a_long_prompt_is_scored_in_pieces(engine_of, natural_of, monkeypatch):
    """Kept logits are bounded, whatever a step may compute."""
    rows = []
    draw = Runner._draw
    monkeypatch.setattr(
        Runner,
        "_draw",
        lambda runner, chunks, logits, ends: rows.append(len(logits)) or draw(runner, chunks, logits, ends),
    )
    every = [numbers(200, 60 + at) for at in range(3)]
    async with engine_of("llama", step_tokens=4096) as engine:
        answers = await asyncio.gather(*[_score(engine, ids) for ids in every])
    for ids, answer in zip(every, answers, strict=True):
        _check(natural_of("llama", ids), ids, answer)
    assert max(rows) <= 128 + len(every)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
async def test_the_texts_of_the_tokens_are_the_prompt(engine_of, name):
    said = "The capital of France is 🙂 Größe\n\tx = [1, 2]"
    async with engine_of(name) as engine:
        answer = await collect(engine.generate(ask(said, Sampling(max_tokens=1, prompt_logprobs=1))))
        assert answer.started.prompt_tokens == await engine.count_tokens("m", Completion(said))
    assert "".join(token.text for token in answer.started.prompt_logprobs) == said
