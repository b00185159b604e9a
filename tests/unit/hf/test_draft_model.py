"""A draft model's guesses save passes of the model and change no text."""

import asyncio
import json
import logging

import pytest

from gateway.engine import LoadFailed, Sampling, Tokens, collect
from gateway_hf.compute.short_pass import ShortForward
from gateway_hf.draft_model import DraftModel
from gateway_hf.engine import HfEngine
from gateway_hf.runner import Runner
from gateway_hf.scheduling.drafter import Drafter
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.settings import Settings
from tests.support.hf_engine import ask, numbers
from tests.support.tiny_models import make_tiny

_NEW = 60


@pytest.fixture
def passes(monkeypatch):
    """Count the model's passes; only the draft model guesses, and each guess is worth it."""
    counted, run = [], Runner.run
    monkeypatch.setattr(Runner, "run", lambda runner, chunks: counted.append(len(chunks)) or run(runner, chunks))
    monkeypatch.setattr(Scheduler, "price_of_guess", lambda *_: 0.05)
    monkeypatch.setattr(Drafter, "propose", lambda *_: [])
    return counted


@pytest.fixture
def folder(tiny):
    return tiny("llama")


def engine(folder, draft=None, **settings):
    return HfEngine(
        Settings(model=str(folder), draft=None if draft is None else str(draft), dtype="float32", **settings)
    )


async def answer(engine, ids, **sampling):
    sampling = {"temperature": 0.0, "max_tokens": _NEW, "ignore_eos": True} | sampling
    return await collect(engine.generate(ask(Tokens(tuple(ids)), Sampling(**sampling))))


async def texts(engine, prompts, **sampling):
    return [each.text for each in await asyncio.gather(*[answer(engine, ids, **sampling) for ids in prompts])]


@pytest.mark.parametrize("kernels", ["auto", "off"])
async def test_a_model_that_guesses_its_own_words_takes_a_fifth_of_the_passes(folder, passes, kernels):
    ids = numbers(40)
    async with engine(folder, kernels=kernels) as alone:
        expected = (await answer(alone, ids)).text
    assert len(passes) == _NEW
    passes.clear()
    async with engine(folder, folder, kernels=kernels) as guessed:
        assert (await answer(guessed, ids)).text == expected
    assert len(passes) <= _NEW / 4


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 3}])
async def test_another_models_guesses_change_no_text(folder, passes, tmp_path, sampling):
    other = make_tiny("qwen2", tmp_path, seed=5)
    prompts = [numbers(length, length) for length in (1, 15, 16, 17, 90)]
    async with engine(folder) as alone:
        expected = await texts(alone, prompts, **sampling)
    async with engine(folder, other) as guessed:
        assert await texts(guessed, prompts, **sampling) == expected


async def test_answers_that_lose_their_room_are_guessed_right_again(folder, passes):
    prompts = [numbers(50 + at, at) for at in range(4)]
    async with engine(folder, places=4, cache_tokens=256) as alone:
        expected = await texts(alone, prompts)
    passes.clear()
    async with engine(folder, folder, places=4, cache_tokens=256) as guessed:
        assert await texts(guessed, prompts) == expected
        assert guessed._running.served.scheduler.preemptions > 0
        assert guessed._running.served.scheduler.cached == 0
    assert sum(passes) < 0.6 * 4 * _NEW


async def test_what_was_read_for_one_answer_is_not_read_again_for_the_next(folder, passes, monkeypatch):
    ids, read, logits = numbers(160), [], ShortForward.logits

    def counted(forward, chunks):
        read.append((forward, sum(chunk.tokens for chunk in chunks)))
        return logits(forward, chunks)

    monkeypatch.setattr(ShortForward, "logits", counted)
    async with engine(folder, folder) as guessed:
        first = await answer(guessed, ids)
        before = len(read)
        second = await answer(guessed, ids)
    assert first.text == second.text
    draft = next(forward for forward, _ in read[-3:] if forward is not read[before][0])
    assert sum(tokens for forward, tokens in read[:before] if forward is draft) > len(ids)
    assert max(tokens for forward, tokens in read[before:] if forward is draft) < 32


async def test_guesses_end_where_the_draft_models_context_ends(folder, passes, tmp_path):
    short = make_tiny("llama", tmp_path)
    config = json.loads((short / "config.json").read_text()) | {"max_position_embeddings": 64}
    (short / "config.json").write_text(json.dumps(config))
    async with engine(folder) as alone:
        expected = (await answer(alone, numbers(40))).text
    passes.clear()
    async with engine(folder, short) as guessed:
        assert (await answer(guessed, numbers(40))).text == expected
    assert _NEW - 24 - 4 <= len(passes) < _NEW


async def test_where_its_pass_fails_the_answer_goes_on(folder, passes, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no pass")

    async with engine(folder, folder) as guessed:
        expected = (await answer(guessed, numbers(40))).text
        monkeypatch.setattr(DraftModel, "_pass", broken)
        with caplog.at_level(logging.ERROR, "gateway_hf"):
            for _ in range(2):
                assert (await answer(guessed, numbers(40))).text == expected
    assert caplog.text.count("the draft model failed; from now on answers go on without its guesses") == 1


async def test_guesses_that_never_come_true_are_made_less_and_less(folder, passes, monkeypatch):
    asked = []
    monkeypatch.setattr(Scheduler, "price_of_guess", lambda *_: 0.2)
    monkeypatch.setattr(DraftModel, "_pass", lambda _, chunks: asked.append(1) or [7] * len(chunks))
    async with engine(folder, folder) as guessed:
        await answer(guessed, numbers(40), logit_bias={7: -100.0})
    assert 0 < len(asked) < _NEW / 3


def _with_another_token(folder):
    file = folder / "tokenizer.json"
    known = json.loads(file.read_text())
    word = max(known["model"]["vocab"], key=known["model"]["vocab"].get)
    known["model"]["vocab"][word + "x"] = known["model"]["vocab"].pop(word)
    known["model"]["merges"] = [pair for pair in known["model"]["merges"] if "".join(pair) != word]
    file.write_text(json.dumps(known))
    return folder


@pytest.mark.parametrize(
    ("model", "draft", "why"),
    [
        (
            "llama",
            "other tokens",
            "the draft model 'draft': it has other tokens than the model that it is to guess for",
        ),
        ("llama", "serial", "the draft model 'draft': it has to run several answers together: one answer at a time"),
        ("serial", "llama", "draft is for models that run several answers together: one answer at a time"),
        ("llama", "nowhere", "there is no folder nowhere"),
    ],
)
async def test_a_draft_model_that_cannot_guess_is_refused_by_its_name(tmp_path, monkeypatch, model, draft, why):
    folders = {"llama": make_tiny("llama", tmp_path / "plain"), "nowhere": tmp_path / "nowhere"}
    folders["other tokens"] = folders["serial"] = tmp_path / "draft"
    make_tiny("llama", tmp_path / "draft")
    if draft == "other tokens":
        _with_another_token(tmp_path / "draft")
    if "serial" in (model, draft):
        config = json.loads((tmp_path / "draft" / "config.json").read_text())
        rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64}
        config |= {"rope_parameters": rope, "max_position_embeddings": 256}
        (tmp_path / "draft" / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadFailed, match=why):
        async with engine(folders[model], folders[draft]):
            pass
