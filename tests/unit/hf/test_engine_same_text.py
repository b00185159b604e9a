"""What the engine says is what transformers says: `model.generate()`, token for token."""

import asyncio
import copy
from contextlib import asynccontextmanager
from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway.engine import Completion, Sampling, Tokens, collect
from gateway_hf.compute.attention import UnsupportedAttention
from gateway_hf.engine import HfEngine
from gateway_hf.loading import weights
from gateway_hf.runner import Runner
from gateway_hf.scheduling.drafter import Guessing
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.settings import Settings
from tests.support.hf_engine import ask, builtin_folder, numbers
from tests.support.tiny_models import ARCHITECTURES, WINDOW

_TEXTS = (
    "The capital of France is",
    "def main():",
    "Größe und naïve 你好世界。 🙂 🚀",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "\n\n",
    "What is the capital of France? I don't know; you'll tell me, won't you?",
)
_NEW = 32


class Reference:
    """A model of transformers and what it says; `exact` has the same weights and computes in float32."""

    def __init__(self, folder, dtype=torch.float32):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.exact = self.model if dtype is torch.float32 else copy.deepcopy(self.model).float()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def generate(self, ids, new):
        prompt = torch.tensor([ids])
        whole = self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new, eos_token_id=None
        )
        return whole[0, len(ids) :].tolist()

    @torch.inference_mode()
    def judge(self, ids, drawn):
        """Return the logits before each of `drawn`, and how near two of them are a tie.

        In float32 the order of a sum may decide a tie; in bfloat16 it is what rounding does to the model itself.
        """
        tokens = torch.tensor([[*ids, *drawn[:-1]]])
        exact = self.exact(tokens).logits[0, len(ids) - 1 :]
        if self.model is self.exact:
            return exact, 1e-3
        return exact, 2 * float((self.model(tokens).logits[0, len(ids) - 1 :] - exact).abs().max())

    def check(self, ids, answer, bias=None):
        """Compare with what the model says of the whole text at once: each token is the best there, or ties with it."""
        drawn = [token.id for token in answer.logprobs]
        logits, tie = self.judge(ids, drawn)
        own = logits.gather(1, torch.tensor(drawn)[:, None])[:, 0]
        wanted = logits.clone()
        for token, added in (bias or {}).items():
            wanted[:, token] += added
        behind = wanted.amax(-1) - wanted.gather(1, torch.tensor(drawn)[:, None])[:, 0]
        assert behind.max() < tie, f"token {int(behind.argmax())} of {drawn} is not what the model says"
        if self.model is self.exact:
            found = torch.tensor([token.logprob for token in answer.logprobs])
            torch.testing.assert_close(found, own - logits.logsumexp(-1), rtol=0, atol=1e-3)
        return drawn

    def check_by_generate(self, ids, answer):
        """Compare with `generate()`, token for token, up to the first tie."""
        drawn = self.check(ids, answer)
        theirs = self.generate(ids, len(drawn))
        at = next((at for at, pair in enumerate(zip(drawn, theirs, strict=True)) if len(set(pair)) > 1), None)
        if at is not None:
            logits, tie = self.judge(ids, drawn[: at + 1])
            assert abs(logits[-1, drawn[at]] - logits[-1, theirs[at]]) < tie, f"token {at} of {theirs} became {drawn}"


@pytest.fixture(scope="session")
def reference_of(tiny):
    return cache(lambda name, dtype=torch.float32: Reference(tiny(name), dtype))


@pytest.fixture
def engine_of(tiny):
    @asynccontextmanager
    async def engine(name, dtype="float32", **settings):
        folder = builtin_folder() if name == "builtin" else tiny(name)
        async with HfEngine(Settings(model=str(folder), dtype=dtype, **settings)) as engine:
            yield engine

    return engine


async def _answer(engine, ids, new=_NEW, **sampling):
    sampling = {"temperature": 0.0, "max_tokens": new, "ignore_eos": True, "logprobs": 0} | sampling
    return await collect(engine.generate(ask(Tokens(tuple(ids)), Sampling(**sampling))))


def _longs(seed, count=3):
    """Prompts longer than the window, of their own tokens."""
    return [numbers(2 * WINDOW + 7 * at + 3, seed + at) for at in range(count)]


async def _alone(engine, reference):
    for ids in (numbers(5), numbers(2 * WINDOW)):
        reference.check_by_generate(ids, await _answer(engine, ids))


async def _crowded(engine, reference):
    """One, again and again, beside seven others of other lengths, drawn at random."""
    (ids,) = _longs(1, 1)
    others = [
        _answer(engine, numbers(3 + 11 * at, 50 + at), new=9 + 8 * at, temperature=1.2, seed=at) for at in range(7)
    ]
    answer, *_ = await asyncio.gather(_answer(engine, ids, _NEW), *others)
    reference.check(ids, answer)


async def _together(engine, reference):
    every = [numbers(3 + 9 * at, 70 + at) for at in range(8)]
    answers = await asyncio.gather(*[_answer(engine, ids, 16) for ids in every])
    for ids, answer in zip(every, answers, strict=True):
        reference.check(ids, answer)


async def _reused(engine, reference):
    """The second time the prompt is found in the cache; so is what another one shares with it."""
    (ids,) = _longs(2, 1)
    first = await _answer(engine, ids)
    assert first.started.cached_tokens == 0
    again, branch = await asyncio.gather(_answer(engine, ids), _answer(engine, [*ids[:40], 9, 8, 7]))
    assert again.started.cached_tokens == again.finished.usage.cached_tokens == (len(ids) - 1) // 16 * 16
    assert branch.started.cached_tokens == 32
    drawn = reference.check(ids, first)
    assert reference.check(ids, again) == drawn
    reference.check([*ids[:40], 9, 8, 7], branch)
    # The answer was cached too: a conversation goes on where it ended.
    longer = [*ids, *[token.id for token in first.logprobs], 11]
    more = await _answer(engine, longer)
    assert more.started.cached_tokens >= len(ids) + _NEW - 16
    reference.check(longer, more)


async def _preempted(engine, reference):
    every = _longs(3, 4)
    answers = await asyncio.gather(*[_answer(engine, ids, 60) for ids in every])
    assert engine._running.served.scheduler.preemptions > 0
    for ids, answer in zip(every, answers, strict=True):
        reference.check(ids, answer)


# Between few words a text repeats itself, and guesses come true.
_FEW = dict.fromkeys(range(20, 23), 100.0)


async def _guessed(engine, reference):
    for ids in ([*numbers(9, 4)] * 6, [20, 21, 22] * 10):
        reference.check(ids, await _answer(engine, ids, 80))
        reference.check(ids, await _answer(engine, ids, 80, logit_bias=_FEW), _FEW)


_CROWD = {"places": 8, "cache_tokens": 2048}
# What a cell of the matrix asks of the engine, and the settings that bring it about.
_CELLS = {
    "alone": (_alone, _CROWD),
    "crowded": (_crowded, _CROWD),
    "together": (_together, _CROWD),
    "reused": (_reused, _CROWD),
    "preempted": (_preempted, {"places": 4, "cache_tokens": 256}),
    "chunked": (_together, _CROWD | {"step_tokens": 16}),
    "guessed": (_guessed, _CROWD),
}
_ALL_CELLS = [("llama", cell, kernels) for cell in _CELLS for kernels in ("auto", "off")]
_OTHERS = [name for name in ARCHITECTURES if name != "llama"]
_SOME_CELLS = [(name, "reused", "auto") for name in _OTHERS] + [("gemma2", "preempted", "off")]
_SLOW_CELLS = [(name, cell, "auto") for name in _OTHERS for cell in ("alone", "chunked")]
_SLOW_CELLS += [(name, "preempted", "off") for name in ("gpt2", "mistral")]
_SLOW = [pytest.param(*cell, marks=pytest.mark.slow) for cell in _SLOW_CELLS]


@pytest.mark.parametrize(("name", "cell", "kernels"), _ALL_CELLS + _SOME_CELLS + _SLOW)
async def test_greedy_is_what_generate_says(engine_of, reference_of, name, cell, kernels):
    run, settings = _CELLS[cell]
    async with engine_of(name, kernels=kernels, **settings) as engine:
        assert engine.models()[0].note == ""
        await run(engine, reference_of(name))
        assert engine._running.served.scheduler.cached == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
async def test_the_text_is_the_one_of_the_tokens(engine_of, reference_of, name):
    reference = reference_of(name)
    async with engine_of(name) as engine:
        for text in _TEXTS:
            ids = reference.tokenizer(text).input_ids
            assert await engine.count_tokens("m", Completion(text)) == len(ids)
            sampling = Sampling(temperature=0.0, max_tokens=20, ignore_eos=True, logprobs=0)
            answer = await collect(engine.generate(ask(text, sampling)))
            drawn = [token.id for token in answer.logprobs]
            before = reference.tokenizer.decode(ids, skip_special_tokens=True)
            assert answer.text == reference.tokenizer.decode(ids + drawn, skip_special_tokens=True)[len(before) :]


async def test_guessing_takes_fewer_passes_and_changes_nothing(engine_of, monkeypatch):
    ids, passes = [20, 21, 22] * 10, []
    run = Runner.run
    monkeypatch.setattr(Runner, "run", lambda runner, chunks: passes.append(len(chunks)) or run(runner, chunks))
    said, counts = [], []
    for crowd in (0, 8):
        monkeypatch.setattr(weights, "_GUESSING", Guessing(crowd, 4))
        monkeypatch.setattr(Scheduler, "price_of_guess", lambda *_: 0.05)
        async with engine_of("llama") as engine:
            drawn = [{"temperature": 0.7, "seed": seed} for seed in range(3)]
            answers = [await _answer(engine, ids, 100, logit_bias=_FEW)]
            answers += await asyncio.gather(*[_answer(engine, ids, 100, logit_bias=_FEW, **each) for each in drawn])
        said.append([answer.text for answer in answers])
        counts.append(sum(passes))
        passes.clear()
    assert said[0] == said[1]
    assert counts[1] < 0.8 * counts[0]


@pytest.mark.parametrize("kernels", ["auto", "off"])
async def test_with_keys_and_values_in_8_bits_an_answer_is_the_same_in_any_company_and_behind_a_prefix(
    engine_of, kernels
):
    prompts = [numbers(40, 1), numbers(70, 2), numbers(9, 3)]
    async with engine_of("llama", kernels=kernels, kv_dtype="int8", places=4) as engine:
        assert engine.models()[0].dtype == "float32, keys and values int8"
        alone = [(await _answer(engine, ids)).text for ids in prompts]
        together = await asyncio.gather(*[_answer(engine, ids) for ids in prompts])
    assert [answer.text for answer in together] == alone
    assert together[1].started.cached_tokens == 64


async def test_the_same_seed_says_the_same_alone_and_side_by_side(engine_of):
    prompt = numbers(20, 5)
    async with engine_of("llama") as engine:
        alone = (await _answer(engine, prompt, temperature=1.5, seed=7)).text
        seeds = (7, 8, 9, 7)
        answers = await asyncio.gather(*[_answer(engine, prompt, temperature=1.5, seed=seed) for seed in seeds])
    first, eight, nine, last = [answer.text for answer in answers]
    assert first == last == alone
    assert len({alone, eight, nine}) > 1


async def test_a_model_that_cannot_be_batched_says_the_same_one_at_a_time(engine_of, reference_of, monkeypatch):
    def refuse(*_):
        raise UnsupportedAttention("it is a test")

    monkeypatch.setattr("gateway_hf.compute.fitting._adopt", refuse)
    async with engine_of("mistral", places=4, step_tokens=16) as engine:
        assert "one answer at a time" in engine.models()[0].note
        await _together(engine, reference_of("mistral"))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
async def test_bfloat16_first_differs_where_the_best_two_are_within_rounding(engine_of, reference_of, name):
    reference = reference_of(name, torch.bfloat16)
    async with engine_of(name, "bfloat16") as engine:
        for ids in _longs(6):
            reference.check_by_generate(ids, await _answer(engine, ids))


@pytest.mark.slow
async def test_the_built_in_model_says_what_generate_says(engine_of):
    reference = Reference(builtin_folder())
    every = [reference.tokenizer(text).input_ids for text in _TEXTS]
    async with engine_of("builtin") as engine:
        answers = await asyncio.gather(*[_answer(engine, ids, 10) for ids in every])
        again = await _answer(engine, every[3], 10)
    assert again.started.cached_tokens == (len(every[3]) - 1) // 16 * 16 > 0
    for ids, answer in zip([*every, every[3]], [*answers, again], strict=True):
        reference.check(ids, answer)
    reference.check_by_generate(every[0], answers[0])
