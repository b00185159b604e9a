"""How far a model is fitted out: the highest step of the ladder that still says the same."""

import gc
import logging
import weakref

import pytest
import torch
from torch import nn
from transformers import (
    BitNetConfig,
    GPT2Config,
    GPTJConfig,
    GptOssConfig,
    HeliumConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    OlmoConfig,
    Qwen2Config,
)
from transformers.modeling_utils import AttentionInterface
from transformers.pytorch_utils import Conv1D

from gateway.engine import LoadFailed
from gateway_hf.compute import fitting, trial
from gateway_hf.compute.attention import NativeAttention, StockAttention
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.kv_cache import blocks_for
from gateway_hf.compute.packed import Packed, PackedLinear, form_of
from gateway_hf.compute.rounded import Rounded
from gateway_hf.compute.serial import Reading, SerialForward
from gateway_hf.compute.trial import TRIAL_BLOCKS, Misfit, Trial
from gateway_hf.engine import HfEngine
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.settings import Settings
from tests.support.hf_engine import drawn_model, numbers, seated

_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "pad_token_id": 0}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_SHAPE |= {"bos_token_id": 1, "eos_token_id": 2}
_GPT2 = GPT2Config(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2)
_GPTJ = GPTJConfig(
    vocab_size=384,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_positions=128,
    rotary_dim=8,
    bos_token_id=1,
    eos_token_id=2,
)
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}


def _fit(config, kernels, form=Format.FLOAT32):
    return fit(lambda: drawn_model(config), Means(TRIAL_BLOCKS, kernels, form))


def _tier(fitted):
    """Say how far a model was fitted out."""
    if isinstance(fitted.forward, SerialForward):
        return "serial"
    modules = list(fitted.forward._model.modules())
    for name, kind in (("fused", FusedLayer), ("packed", PackedLinear)):
        if any(isinstance(module, kind) for module in modules):
            return name
    return {NativeAttention: "batches", StockAttention: "stock"}[type(fitted.forward._attention)]


@torch.inference_mode()
def _steps_of_a_pass(fitted):
    """Count how often the engine shows that it gets on while it reads one prompt in one pass."""
    sequence = seated(numbers(20), [0, 1])
    before = fitted.forward.steps.count
    fitted.forward.logits([Chunk(sequence, 20)])
    return fitted.forward.steps.count - before


@pytest.mark.parametrize(
    ("config", "tier"),
    [
        (LlamaConfig(**_SHAPE), "fused"),
        (Qwen2Config(**_SHAPE), "fused"),
        (OlmoConfig(**_SHAPE), "fused"),
        (_GPT2, "fused"),
        (MixtralConfig(**_SHAPE, num_local_experts=4), "fused"),
        (HeliumConfig(**_SHAPE, head_dim=16), "fused"),  # looks like a Llama, but its positions turn in other pairs
        (BitNetConfig(**_SHAPE), "packed"),  # norms what attention answers before it is projected
        (_GPTJ, "serial"),
        (GptOssConfig(**_SHAPE, head_dim=16, num_local_experts=4), "fused"),
        (LlamaConfig(**_SHAPE, rope_parameters=_DYNAMIC), "serial"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.model_type,
)
def test_a_model_gets_the_highest_step_that_fits_it(kernels, config, tier):
    fitted = _fit(config, kernels)
    assert _tier(fitted) == tier
    assert _steps_of_a_pass(fitted) >= config.num_hidden_layers
    assert fitted.batched == (tier != "serial")
    assert fitted.note == "" if fitted.batched else fitted.note.startswith("one answer at a time, and ")
    assert "\n" not in fitted.note


def test_a_model_that_says_something_else_in_every_way_is_refused(kernels, monkeypatch, caplog):
    _spoil(monkeypatch, SerialForward, "logits", lambda said: (said[0].flip(-1), said[1]))
    with caplog.at_level(logging.INFO, "gateway_hf"), pytest.raises(LoadFailed, match="cannot be run: ") as caught:
        _fit(_GPTJ, kernels)
    assert "where all is read again for each token it says something else" in caught.value.message
    assert "\n" not in caught.value.message
    assert all(f"not run one answer at a time where {reading.value}" in caplog.text for reading in Reading)


def test_a_model_whose_own_code_fails_is_refused_and_the_log_says_how(kernels, monkeypatch, caplog):
    def broken(*_, **__):
        raise IndexError("out of its own range")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(LoadFailed, match="cannot be run: its code raises IndexError; the log says more"):
        _fit(LlamaConfig(**_SHAPE), kernels)
    assert "out of its own range" in caplog.text


def test_positions_that_turn_with_the_length_are_batched_where_no_sequence_becomes_so_long(kernels):
    config = LlamaConfig(**_SHAPE, rope_parameters=_DYNAMIC)
    for window, tier in ((128, "fused"), (129, "serial")):
        fitted = fit(lambda: drawn_model(config), Means(TRIAL_BLOCKS, kernels, Format.FLOAT32, window))
        assert _tier(fitted) == tier
    assert fitted.note.endswith("positions of the kind dynamic (answers run together with a context of 128 or less)")
    assert "each prompt is read in one pass" in fitted.note


def test_a_model_that_runs_one_answer_at_a_time_holds_nothing_of_the_trial(kernels):
    assert not _fit(_GPTJ, kernels).forward._states


@pytest.mark.parametrize("has_kernels", [True, False])
def test_beside_kernels_a_model_is_tried_in_one_thread_of_torchs(kernels, monkeypatch, has_kernels):
    torch.set_num_threads(2)
    seen, check = [], trial.Trials.check
    monkeypatch.setattr(trial.Trials, "check", lambda *each: (seen.append(torch.get_num_threads()), check(*each)))
    _fit(LlamaConfig(**_SHAPE), kernels if has_kernels else None)
    assert seen == [1 if has_kernels else 2]
    assert torch.get_num_threads() == 2


def test_without_kernels_a_model_is_batched_by_torch_alone():
    assert _tier(_fit(LlamaConfig(**_SHAPE), None)) == "stock"
    assert _tier(_fit(LlamaConfig(**_SHAPE), None, None)) == "stock"


def test_a_layer_whose_depth_cannot_be_packed_stays_what_it_was(kernels):
    odd = LlamaConfig(**_SHAPE | {"intermediate_size": 127})
    fitted = fit(lambda: drawn_model(odd, torch.bfloat16), Means(TRIAL_BLOCKS, kernels, Format.BFLOAT16))
    assert _tier(fitted) == "packed"
    kept = [name for name, module in fitted.forward._model.named_modules() if isinstance(module, nn.Linear)]
    assert {name.rpartition(".")[2] for name in kept} == {"down_proj"}


@pytest.mark.parametrize(
    ("broken", "tier"), [("fused", "packed"), ("fused packed", "batches"), ("fused packed batches", "serial")]
)
def test_a_change_that_changes_what_the_model_says_is_refused(kernels, monkeypatch, caplog, broken, tier):
    if "fused" in broken:
        _spoil(monkeypatch, FusedLayer, "forward", lambda states: states * 1.1)
    if "packed" in broken:
        _spoil(monkeypatch, PackedLinear, "forward", lambda product: product + 0.5 * product.norm())
    if "batches" in broken:
        _spoil(monkeypatch, NativeAttention, "_attend", lambda attended: attended.flip(1))
    with caplog.at_level(logging.INFO, "gateway_hf"):
        fitted = _fit(LlamaConfig(**_SHAPE), kernels)
    assert _tier(fitted) == tier
    assert caplog.text.count("says something else") >= len(broken.split())


def _spoil(monkeypatch, owner, name, change):
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **named: change(right(*args, **named)))


@pytest.mark.parametrize("spoiled", [torch.nan, 3.0])
def test_weights_that_were_packed_wrongly_are_never_served(kernels, monkeypatch, spoiled):
    init = Packed.__init__

    def wrong(packed, weight, *rest):
        is_rounded = isinstance(weight, Rounded)
        init(packed, weight._replace(scales=weight.scales * spoiled) if is_rounded else weight * spoiled, *rest)

    monkeypatch.setattr(Packed, "__init__", wrong)
    assert _tier(_fit(LlamaConfig(**_SHAPE), kernels)) == "batches"
    with pytest.raises(LoadFailed, match=r"cannot be quantized: .*something else") as caught:
        _fit(LlamaConfig(**_SHAPE), kernels, Format.INT8)
    assert "\n" not in caught.value.message


def test_each_attempt_begins_with_the_model_as_it_was_loaded(kernels, monkeypatch):
    _spoil(monkeypatch, FusedLayer, "forward", lambda states: states * 1.1)
    loaded = []

    def load():
        loaded.append(drawn_model(LlamaConfig(**_SHAPE)))
        return loaded[-1]

    fitted = fit(load, Means(TRIAL_BLOCKS, kernels, Format.FLOAT32))
    assert len(loaded) == 2
    assert fitted.forward._model is loaded[1]


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**_SHAPE | {"hidden_size": 48, "intermediate_size": 80}, head_dim=12),
        _GPTJ,
    ],
    ids=["no layer fits", "serial"],
)
def test_bytes_that_the_model_cannot_have_are_refused(kernels, config):
    with pytest.raises(LoadFailed, match="cannot be quantized: "):
        _fit(config, kernels, Format.INT8)


def test_keys_and_values_in_8_bits_are_refused_where_the_model_keeps_its_own(kernels):
    for team, form in ((kernels, Format.FLOAT32), (None, None)):
        means = Means(TRIAL_BLOCKS, team, form, rounded=True)
        with pytest.raises(LoadFailed, match="kv_dtype = int8 is for models that run several answers together: "):
            fit(lambda: drawn_model(_GPTJ), means)


def test_keys_and_values_in_8_bits_leave_layers_fused_and_are_tried(kernels):
    means = Means(TRIAL_BLOCKS, kernels, Format.FLOAT32, rounded=True)
    fitted = fit(lambda: drawn_model(LlamaConfig(**_SHAPE)), means)
    assert _tier(fitted) == "fused"
    assert fitted.cache.form is Format.INT8
    torch.manual_seed(0)
    trial = Trial(drawn_model(LlamaConfig(**_SHAPE)))
    trial.check(fitted.forward, 0.1, "as it is")
    with pytest.raises(Misfit):
        trial.check(fitted.forward, 1e-4, "as if nothing were rounded")


def test_gpt2s_own_kind_of_layer_is_packed(kernels, monkeypatch):
    _spoil(monkeypatch, FusedLayer, "forward", lambda states: states * 1.1)
    modules = list(_fit(_GPT2, kernels).forward._model.modules())
    assert not [module for module in modules if isinstance(module, Conv1D | nn.Linear)]
    assert len([module for module in modules if isinstance(module, PackedLinear)]) == 4 * 2 + 1


def test_bytes_leave_what_they_do_not_fit_in_the_models_own_format(kernels):
    config = LlamaConfig(**_SHAPE | {"intermediate_size": 80})
    fitted = fit(lambda: drawn_model(config, torch.bfloat16), Means(TRIAL_BLOCKS, kernels, Format.INT8))
    layer = fitted.forward._model.model.layers[0]
    forms = {name: getattr(layer.mlp, name)._packed.struct.format for name in ("up_proj", "down_proj")}
    assert forms == {"up_proj": Format.INT8, "down_proj": Format.BFLOAT16}


def test_the_trial_keeps_to_the_blocks_that_there_are_at_least(kernels, monkeypatch):
    highest = []
    sequence = trial.Sequence

    def seen(tokens, **given):
        made = sequence(tokens, **given)
        highest.append(made)
        return made

    monkeypatch.setattr(trial, "Sequence", seen)
    _fit(LlamaConfig(**_SHAPE), kernels)
    assert {block for made in highest for block in made.blocks} == set(range(TRIAL_BLOCKS))


def _registered():
    return {name for name in AttentionInterface._global_mapping if name.startswith("gateway_")}


def test_the_librarys_registry_forgets_a_model_that_is_gone(kernels):
    before = _registered()
    fitted = _fit(LlamaConfig(**_SHAPE), kernels)
    assert len(_registered() - before) == 1
    model, cache = weakref.ref(fitted.forward._model), weakref.ref(fitted.cache)
    del fitted
    gc.collect()
    assert (model(), cache()) == (None, None)
    assert _registered() == before


async def test_the_librarys_registry_forgets_a_model_that_is_unloaded(tiny):
    before = _registered()
    async with HfEngine(Settings(model=str(tiny("llama")), dtype="float32")):
        assert len(_registered() - before) == 1
    assert _registered() == before


async def test_a_model_that_runs_one_answer_at_a_time_says_so_on_its_card(tmp_path, tiny):
    folder = tiny("llama")
    for file in folder.iterdir():
        if file.name.startswith(("tokenizer", "chat")):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    drawn_model(_GPTJ).save_pretrained(tmp_path)
    async with HfEngine(Settings(model=str(tmp_path), dtype="float32")) as engine:
        (card,) = engine.models()
        assert card.note == (
            "one answer at a time, and prompts are read in chunks: its code takes no attention but its own"
        )
        assert engine._running.served.scheduler.cached == 0


def test_tokens_are_rounded_up_to_blocks():
    assert [blocks_for(tokens) for tokens in (1, 16, 17)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("dtype", "quantize", "form"),
    [
        (torch.float32, "none", Format.FLOAT32),
        (torch.bfloat16, "none", Format.BFLOAT16),
        (torch.float16, "none", None),
        (torch.float32, "int8", Format.INT8),
    ],
)
def test_the_format_of_weights_follows_the_settings(dtype, quantize, form):
    assert form_of(dtype, quantize) is form


def test_code_of_a_model_that_raises_costs_a_step_of_the_ladder_and_no_more(kernels, monkeypatch, caplog):
    def broken(*_):
        raise TypeError("not what it seemed")

    monkeypatch.setattr(fitting, "fused_layers", broken)
    with caplog.at_level(logging.INFO, "gateway_hf"):
        assert _tier(_fit(LlamaConfig(**_SHAPE), kernels)) == "packed"
    assert "its code raises TypeError" in caplog.text
