"""One model with several adapters: each is a model of its own name, and says what its merged weights say."""

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM

from gateway.engine import LoadFailed, Sampling, Tokens, collect
from gateway_hf.compute.panel_cache import PanelCache
from gateway_hf.embedding.engine import EmbeddingEngine
from gateway_hf.engine import HfEngine
from gateway_hf.loading import weights
from gateway_hf.scheduling.drafter import Guessing
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.settings import Settings
from tests.architectures.tiny import make
from tests.support.hf_engine import ask, numbers
from tests.support.tiny_adapters import make_adapter, merge

NEW = 24
_TARGETS = {"llama": ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"), "gpt2": ("c_attn", "c_proj")}
_TARGETS |= {"mamba": ("in_proj", "x_proj", "out_proj"), "mistral": ("q_proj", "k_proj", "v_proj", "gate_proj")}
_TIE = 1e-3


@pytest.fixture(scope="module")
def family(tiny, tmp_path_factory):
    """Say the folder of a model, and those of two adapters of it, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(f"{kind}-adapters")
            base = make("mamba", folder / "base") if kind == "mamba" else tiny(kind)
            own = {
                name: make_adapter(base, folder / name, seed=seed, targets=_TARGETS[kind])
                for seed, name in enumerate("ab")
            }
            made[kind] = base, {name: str(path) for name, path in own.items()}
        return made[kind]

    return of


@asynccontextmanager
async def served(base, adapters, **settings):
    usual = {"dtype": "float32", "threads": 1, "places": 8, "cache_tokens": 2048}
    async with HfEngine(Settings(model=str(base), adapters=adapters, **usual | settings)) as engine:
        yield engine


async def answer(engine, model, ids, **sampling):
    sampling = {"temperature": 0.0, "max_tokens": NEW, "ignore_eos": True, "logprobs": 0} | sampling
    request = msgspec.structs.replace(ask(Tokens(tuple(ids)), Sampling(**sampling)), model=model)
    return await collect(engine.generate(request))


@torch.inference_mode()
def check(model, ids, said):
    """Compare an answer with what `generate()` of a model says, up to the first tie."""
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    theirs = out.sequences[0, len(ids) :].tolist()
    for token, wanted, row in zip(said.logprobs, theirs, torch.cat(out.logits), strict=True):
        if token.id != wanted:
            assert row[wanted] - row[token.id] < _TIE * row.std(), (
                f"{theirs} became {[each.id for each in said.logprobs]}"
            )
            return


@pytest.mark.parametrize(
    ("kind", "kernels", "note"),
    [
        ("llama", "auto", ""),
        ("gpt2", "auto", ""),
        pytest.param("llama", "off", "", marks=pytest.mark.slow),
        pytest.param("gpt2", "off", "", marks=pytest.mark.slow),
        pytest.param("mistral", "auto", "", marks=pytest.mark.slow),
        pytest.param("mamba", "auto", "one answer at a time", marks=pytest.mark.slow),
    ],
)
async def test_each_adapter_says_what_its_merged_weights_say_in_one_batch(family, kind, kernels, note):
    base, adapters = family(kind)
    models = {"base": AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()}
    models |= {name: merge(base, Path(folder)) for name, folder in adapters.items()}
    wanted = [(name, numbers(length, length)) for length in (6, 20, 70) for name in ("a", "base", "b")]
    async with served(base, adapters, kernels=kernels, step_tokens=32) as engine:
        assert note in engine.models()[0].note
        together = await asyncio.gather(*[answer(engine, name, ids) for name, ids in wanted])
        alone = [await answer(engine, name, ids) for name, ids in wanted[:3]]
    for (name, ids), said in zip(wanted, together, strict=True):
        check(models[name], ids, said)
    if kernels == "auto":  # to the bit
        assert [each.logprobs for each in alone] == [each.logprobs for each in together[:3]]


@pytest.mark.parametrize("beside", ["adapters", "draft"])
async def test_weights_that_an_earlier_start_packed_say_the_same_beside_others(family, tmp_path, monkeypatch, beside):
    found, find = [], PanelCache.find
    cache = PanelCache(tmp_path, "tiny", {"model": "base"}, 1 << 30, least=0)
    monkeypatch.setattr(weights, "_panels", lambda *_: cache)
    monkeypatch.setattr(PanelCache, "find", lambda *given: found.append(find(*given)) or found[-1])
    base, adapters = family("llama")
    own = {"adapters": adapters} if beside == "adapters" else {"adapters": {}, "draft": str(base)}
    names = ("a", "base", "b") if beside == "adapters" else ("base",)
    answers = []
    for _ in range(2):
        async with served(base, **own) as engine:
            answers.append([await answer(engine, name, numbers(20)) for name in names])
            await asyncio.to_thread(panels_are_kept)
    assert [each is None for each in found] == [True] * (len(found) // 2) + [False] * (len(found) // 2)
    assert [each.logprobs for each in answers[1]] == [each.logprobs for each in answers[0]]


def panels_are_kept():
    """Wait until what was packed is written."""
    for thread in threading.enumerate():
        if thread.name == "panels":
            thread.join()


async def test_each_adapter_is_a_model_with_a_card_of_its_own(family):
    base, adapters = family("llama")
    async with served(base, adapters) as engine:
        card, *own = engine.models()
    assert (card.parent, card.root, card.batch) == ("", base.name, card.name)
    assert [(each.name, each.parent, each.root, each.batch) for each in own] == [
        ("a", card.name, "a", card.name),
        ("b", card.name, "b", card.name),
    ]
    assert len({each.fingerprint for each in (card, *own)}) == 3
    same = {"capabilities", "places", "cache_tokens", "context_window", "defaults", "tools", "dtype"}
    assert all(getattr(each, name) == getattr(card, name) for each in own for name in same)


async def test_a_fingerprint_is_that_of_the_files_and_not_of_the_name(family, tmp_path):
    base, adapters = family("llama")
    other = make_adapter(base, tmp_path / "other", seed=9, targets=_TARGETS["llama"])
    said = []
    for given in ({"x": adapters["a"]}, {"y": adapters["a"]}, {"x": str(other)}):
        async with served(base, given) as engine:
            said.append(engine.models()[1].fingerprint)
    assert said[0] == said[1] != said[2]


async def test_what_is_cached_with_one_adapter_is_found_with_no_other(family):
    base, adapters = family("llama")
    ids = numbers(70, 7)
    async with served(base, adapters) as engine:
        cached = [
            (await answer(engine, name, ids)).started.cached_tokens for name in ("a", "base", "b", "a", "base", "b")
        ]
    assert cached == [0, 0, 0, 64, 64, 64]


async def test_guesses_change_no_text_with_an_adapter_either(family, monkeypatch):
    base, adapters = family("llama")
    ids, few, said = [20, 21, 22] * 10, dict.fromkeys(range(20, 23), 100.0), []
    for crowd in (0, 8):
        monkeypatch.setattr(weights, "_GUESSING", Guessing(crowd, 4))
        monkeypatch.setattr(Scheduler, "price_of_guess", lambda *_: 0.05)
        async with served(base, adapters) as engine:
            answers = [answer(engine, name, ids, logit_bias=few, max_tokens=80) for name in ("a", "base", "b")]
            said.append([each.logprobs for each in await asyncio.gather(*answers)])
    assert said[0] == said[1]


async def test_an_adapter_of_another_model_ends_the_load_in_one_line(family, tiny):
    _, adapters = family("llama")
    with pytest.raises(LoadFailed, match=r"^the adapter 'a' changes '.*' \('.*' in adapter_model.safetensors\).*$"):
        async with served(tiny("gpt2"), adapters):
            pass


_GENERATING = {"adapters": {"a": "nowhere"}, "quantize": "int8", "kv_dtype": "int8", "draft": "builtin"}
_GENERATING |= {"step_tokens": 64, "cache_tokens": 64, "compile_seconds": 1.0, "compile_mib": 64}


@pytest.mark.parametrize("name", _GENERATING)
async def test_a_model_that_makes_vectors_takes_no_setting_that_would_change_nothing(name):
    with pytest.raises(LoadFailed, match=f"'{name}' is for models that generate"):
        async with EmbeddingEngine(Settings(model="builtin-embedding", **{name: _GENERATING[name]})):
            pass
