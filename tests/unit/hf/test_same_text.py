"""What the engine says is what transformers says: `model.generate()`, token for token."""

import asyncio

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway.engine import Completion, GenerateRequest, Sampling, Tokens, collect
from gateway_hf import engine as engine_module
from gateway_hf import weights
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from tests.support.tiny_models import ARCHITECTURES

_PROMPTS = (
    "The capital of France is",
    "Once upon a time",
    "one, two, three,",
    "def main():",
    "I don't know",
    "Größe und naïve",
    "Привет, мир.",
    "你好世界。",
    "こんにちは。",
    "🙂 🚀",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "system user assistant",
    "if __name__ == '__main__':\n",
    "count:",
    "  leading spaces",
    "trailing spaces  ",
    "1 + 1 = ",
    "\n\n",
    "What is the capital of France? I don't know; you'll tell me, won't you?",
    "The river is the Seine, and",
)
# Nearer than this the best two logits are a tie, which the order of a sum may decide.
_TIE = 1e-3


def _ask(prompt, **sampling):
    return GenerateRequest(id="t", model="m", prompt=prompt, sampling=Sampling(**sampling))


async def _say(engine, prompt, **sampling):
    answer = await collect(engine.generate(_ask(prompt, **sampling)))
    return answer.text


async def _draw(engine, ids, **sampling):
    """Return the ids that were drawn, but for a token that ended the answer."""
    answer = await collect(engine.generate(_ask(Tokens(tuple(ids)), logprobs=0, **sampling)))
    return [drawn.id for drawn in answer.logprobs]


@torch.inference_mode()
def _reference(model, ids, new, eos_ids):
    prompt = torch.tensor([ids])
    whole = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new)
    answer = whole[0, len(ids) :].tolist()
    return answer[:-1] if answer[-1] in eos_ids else answer


@torch.inference_mode()
def _assert_same(model, ids, ours, theirs):
    """Accept a divergence only where the best two logits are a tie."""
    if ours == theirs:
        return
    at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1), None)
    at = min(len(ours), len(theirs)) if at is None else at
    best = model(torch.tensor([ids + theirs[:at]])).logits[0, -1].topk(2).values
    assert best[0] - best[1] < _TIE, f"token {at} of {theirs} became {ours}"


@pytest.fixture(params=ARCHITECTURES)
def folder(request, tiny):
    return tiny(request.param)


@pytest.fixture
async def engine(folder):
    async with HfEngine(Settings(model=str(folder), dtype="float32")) as engine:
        yield engine


async def test_greedy_is_what_generate_says(engine, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    eos = model.generation_config.eos_token_id
    eos_ids = {eos} if isinstance(eos, int) else set(eos)
    lengths = set()
    for prompt in _PROMPTS:
        ids = tokenizer(prompt).input_ids
        theirs = _reference(model, ids, 48, eos_ids)
        ours = await _draw(engine, ids, temperature=0.0, max_tokens=48)
        _assert_same(model, ids, ours, theirs)
        assert await engine.count_tokens("m", Completion(prompt)) == len(ids)
        if ours == theirs:
            said = await _say(engine, Completion(prompt), temperature=0.0, max_tokens=48)
            assert said == _decode(tokenizer, ids, theirs)
        lengths.add(len(theirs))
    assert max(lengths) == 48


def _decode(tokenizer, ids, answer):
    before = tokenizer.decode(ids, skip_special_tokens=True)
    return tokenizer.decode(ids + answer, skip_special_tokens=True)[len(before) :]


async def test_eight_side_by_side_say_what_each_says_alone(engine):
    prompts = [Completion(prompt) for prompt in _PROMPTS[:8]]
    alone = [await _say(engine, prompt, temperature=0.0, max_tokens=24) for prompt in prompts]
    together = await asyncio.gather(*[_say(engine, prompt, temperature=0.0, max_tokens=24) for prompt in prompts])
    assert together == alone


async def test_the_same_seed_says_the_same_alone_and_side_by_side(engine):
    prompt, sampling = Completion("Once upon a time"), {"temperature": 1.5, "max_tokens": 24}
    alone = await _say(engine, prompt, seed=7, **sampling)
    others = [_say(engine, prompt, seed=seed, **sampling) for seed in (7, 8, 9, 7)]
    first, eight, nine, last = await asyncio.gather(*others)
    assert first == last == alone
    assert len({alone, eight, nine}) > 1


async def test_a_prompt_read_in_chunks_is_answered_the_same(folder, monkeypatch):
    ids = [5 + at * 7 % 300 for at in range(150)]
    said = []
    for chunk in (1000, 64, 7):
        monkeypatch.setattr(engine_module, "_CHUNK", chunk)
        async with HfEngine(Settings(model=str(folder), dtype="float32")) as engine:
            said.append(await _draw(engine, ids, temperature=0.0, max_tokens=24))
    assert said[0] == said[1] == said[2]


@pytest.mark.slow
async def test_the_built_in_model_says_what_generate_says():
    settings = Settings(dtype="float32")
    loaded = weights.load(settings)
    async with HfEngine(settings) as engine:
        ids = [loaded.text.encode(Completion(prompt)) for prompt in _PROMPTS[:20]]
        ours = await asyncio.gather(*[_draw(engine, each, temperature=0.0, max_tokens=16) for each in ids])
    for prompt, answer in zip(ids, ours, strict=True):
        _assert_same(loaded.model, prompt, answer, _reference(loaded.model, prompt, 16, loaded.eos_ids))
