"""Whole layers in one call say what the layers say; over tiny random models made on the spot."""

import copy
import logging

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitNetConfig,
    Cohere2Config,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTNeoXConfig,
    GraniteConfig,
    HeliumConfig,
    HunYuanDenseV1Config,
    LlamaConfig,
    MistralConfig,
    NemotronConfig,
    Olmo2Config,
    OlmoConfig,
    OPTConfig,
    PersimmonConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

from gateway.engine import LoadFailed
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import Format, Kernels
from gateway_hf.compute.rounded import round_weights
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.settings import Settings, cache_folder
from tests.support.hf_engine import numbers, read, scattered, seated

_BLOCKS = 12
_TOKENS = numbers(70)
_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}
_OLDER = {"vocab_size": 384, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
_FUSED = {
    "norms of turned heads": HunYuanDenseV1Config(**_SHAPE, head_dim=16),
    "llama": LlamaConfig(**_SHAPE),
    "with every bias": LlamaConfig(**_SHAPE, attention_bias=True, mlp_bias=True),
    "gelu": LlamaConfig(**_SHAPE, hidden_act="gelu"),
    "gelu by tanh": LlamaConfig(**_SHAPE, hidden_act="gelu_pytorch_tanh"),
    "heads of 8": LlamaConfig(**_SHAPE, head_dim=8),
    "heads of 80": LlamaConfig(**_SHAPE, head_dim=80),
    "no whole panel": LlamaConfig(**_SHAPE | {"hidden_size": 40, "intermediate_size": 100}, head_dim=10),
    "one key for all": LlamaConfig(**_SHAPE | {"num_key_value_heads": 1}),
    "each its own": LlamaConfig(**_SHAPE | {"num_key_value_heads": 4}),
    "qwen2": Qwen2Config(**_SHAPE),
    "qwen3": Qwen3Config(**_SHAPE, head_dim=16),
    "mistral": MistralConfig(**_SHAPE, sliding_window=24),
    "gemma": GemmaConfig(**_SHAPE, head_dim=16),
    "gemma2": Gemma2Config(**_SHAPE, head_dim=16, sliding_window=24),
    "gemma3": Gemma3TextConfig(**_SHAPE, head_dim=16, sliding_window=24),
    "phi": PhiConfig(**_SHAPE),
    "phi3": Phi3Config(**_SHAPE),
    "granite": GraniteConfig(**_SHAPE, residual_multiplier=0.22, attention_multiplier=0.1, embedding_multiplier=3.0),
    "olmo": OlmoConfig(**_SHAPE),
    "olmo2": Olmo2Config(**_SHAPE),
    "gpt-neox": GPTNeoXConfig(**_SHAPE),
    "gpt-neox, one part after the other": GPTNeoXConfig(**_SHAPE, use_parallel_residual=False, hidden_act="relu"),
    "gpt2": GPT2Config(**_OLDER),
    "one key for all, joined": GPTBigCodeConfig(**_OLDER),
    "its own keys, joined": GPTBigCodeConfig(**_OLDER, multi_query=False),
    "opt": OPTConfig(**_SHAPE, ffn_dim=128, word_embed_proj_dim=64),
    "starcoder2": Starcoder2Config(**_SHAPE),
    "cohere": CohereConfig(**_SHAPE),
    "cohere, with norms of heads": CohereConfig(**_SHAPE, use_qk_norm=True),
    "cohere2": Cohere2Config(**_SHAPE, sliding_window=24, layer_types=["sliding_attention", "full_attention"]),
    "glm": GlmConfig(**_SHAPE, head_dim=16),
    "glm4": Glm4Config(**_SHAPE, head_dim=16),
    "smollm3": SmolLM3Config(**_SHAPE, no_rope_layers=[0, 1]),
    "stablelm": StableLmConfig(**_SHAPE),
    "stablelm, beside each other": StableLmConfig(**_SHAPE, use_parallel_residual=True),
    "nemotron": NemotronConfig(**_SHAPE),
    "helium": HeliumConfig(**_SHAPE, head_dim=16),
    "persimmon": PersimmonConfig(**_SHAPE),
}
_OTHER = {"a norm in the middle of attention": BitNetConfig(**_SHAPE)}


def _made(config, dtype=torch.float32):
    """Draw a model whose norms and biases are none of them what they begin with."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()
        for name, weight in model.named_parameters():
            is_norm = any(part in name for part in ("norm", "ln_")) and not name.endswith("bias")
            weight.normal_(mean=1.0 if is_norm else 0.0, std=0.2)
    return model.to(dtype)


def _fused(model, kernels, form, blocks=_BLOCKS):
    forward = fit(lambda: copy.deepcopy(model), Means(blocks, kernels, form)).forward
    assert sum(isinstance(each, FusedLayer) for each in forward._model.modules()) == 2
    return forward


def _off(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", _FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_it_says_what_the_layers_say(kernels, name, dtype):
    model = _made(_FUSED[name], dtype)
    forward = _fused(model, kernels, Format.FLOAT32 if dtype is torch.float32 else Format.BFLOAT16)
    tables, _ = scattered([_BLOCKS * 16])
    found = read(forward, _TOKENS, tables[0], (40, 13, 15, 1))
    exact = model.float()(torch.tensor([_TOKENS])).logits[0, -1]
    assert _off(found[-1], exact) < (1e-4 if dtype is torch.float32 else 0.1)


@torch.inference_mode()
def test_what_a_norm_adds_to_the_square_is_added_once(kernels):
    model = _made(LlamaConfig(**_SHAPE, rms_norm_eps=0.1))
    forward = _fused(model, kernels, Format.FLOAT32)
    (found,) = read(forward, _TOKENS, range(5))
    assert _off(found, model(torch.tensor([_TOKENS])).logits[0, -1]) < 1e-4


@torch.inference_mode()
def test_bytes_are_near(kernels):
    model = _made(_FUSED["llama"])
    forward = _fused(model, kernels, Format.INT8)
    tables, _ = scattered([_BLOCKS * 16])
    found = read(forward, _TOKENS, tables[0], (40, 29))
    assert 1e-6 < _off(found[-1], model(torch.tensor([_TOKENS])).logits[0, -1]) < 0.1


@torch.inference_mode()
def test_four_bits_are_near_to_what_they_were_rounded_to(kernels):
    model = _made(_FUSED["llama"])
    round_weights(model)
    forward = _fused(model, kernels, Format.INT8)
    assert {layer.struct.down.format for layer in forward._model.model.layers} == {Format.INT4}
    tables, _ = scattered([_BLOCKS * 16])
    found = read(forward, _TOKENS, tables[0], (40, 29))
    assert 1e-6 < _off(found[-1], model(torch.tensor([_TOKENS])).logits[0, -1]) < 0.1


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        (Format.FLOAT32, torch.float32),
        (Format.BFLOAT16, torch.bfloat16),
        (Format.INT8, torch.float32),
        (Format.INT8, torch.bfloat16),
        (Format.INT4, torch.float32),
    ],
)
@pytest.mark.parametrize(
    "name", ["mistral", "gemma2", "gpt-neox", "cohere, with norms of heads", "olmo2", "norms of turned heads"]
)
@torch.inference_mode()
def test_a_row_gets_the_same_bits_whatever_its_company(kernels, form, dtype, name):
    model = _made(_FUSED[name], dtype)
    if form is Format.INT4:
        round_weights(model)
        form = Format.INT8
    forward = _fused(model, kernels, form)
    lengths = [1, 30, 2, 17, 5, 40, 3, 9]
    tables, _ = scattered(lengths)
    everyone = [seated(numbers(length, length), table) for length, table in zip(lengths, tables, strict=True)]
    together, _ = forward.logits([Chunk(each, each.pending) for each in everyone])
    for each, said in zip(everyone, together, strict=True):
        whole, _ = forward.logits([Chunk(each, each.pending)])
        one_by_one = read(forward, each.tokens, each.blocks, [1] * (len(each.tokens) - 1))
        assert torch.equal(whole[0], said)
        assert torch.equal(one_by_one[-1], said)


@pytest.mark.parametrize("form", [Format.BFLOAT16, Format.INT8, Format.INT4])
@pytest.mark.parametrize("inner", [1_152, 1_088])  # six groups of 192, and seventeen of 64
@torch.inference_mode()
def test_a_row_gets_the_same_bits_of_a_wide_gate_whatever_its_company(kernels, form, inner):
    shape = _SHAPE | {"intermediate_size": inner, "max_position_embeddings": 512}
    model = _made(LlamaConfig(**shape), torch.bfloat16)
    if form is Format.INT4:
        round_weights(model)
        form = Format.INT8
    lengths = [300, 3, 40, 250]
    tables, blocks = scattered(lengths)
    forward = _fused(model, kernels, form, blocks)
    everyone = [seated(numbers(length, length), table) for length, table in zip(lengths, tables, strict=True)]
    together, _ = forward.logits([Chunk(each, each.pending) for each in everyone])
    for each, said in zip(everyone, together, strict=True):
        by_some = read(forward, each.tokens, each.blocks, [4] * ((len(each.tokens) - 1) // 4))
        assert torch.equal(by_some[-1], said)


@torch.inference_mode()
def test_more_threads_say_the_same(kernels):
    shape = _SHAPE | {"intermediate_size": 1_152, "max_position_embeddings": 512}
    model = _made(LlamaConfig(**shape), torch.bfloat16)
    few, many = (_fused(model, team, Format.INT8, 24) for team in (kernels, Kernels(cache_folder(Settings()), 7)))
    said = [read(forward, numbers(350), range(22), (300, 40)) for forward in (few, many)]
    assert all(torch.equal(a, b) for a, b in zip(*said, strict=True))


@pytest.mark.parametrize("name", _OTHER)
def test_a_layer_of_another_kind_is_left_alone(kernels, name):
    forward = fit(lambda: _made(_OTHER[name]), Means(_BLOCKS, kernels, Format.FLOAT32)).forward
    assert not any(isinstance(each, FusedLayer) for each in forward._model.modules())


def test_a_layer_with_a_part_more_is_left_alone(kernels, caplog):
    def load():
        model = _made(_FUSED["llama"])
        model.model.layers[1].extra = nn.Linear(2, 2)
        return model

    with caplog.at_level(logging.INFO, "gateway_hf"):
        forward = fit(load, Means(_BLOCKS, kernels, Format.FLOAT32)).forward
    assert not any(isinstance(each, FusedLayer) for each in forward._model.modules())
    assert "its extra.weight is no piece that the kernels have" in caplog.text


def test_a_depth_that_bytes_do_not_fit_is_left_alone(kernels, caplog):
    with caplog.at_level(logging.INFO, "gateway_hf"), pytest.raises(LoadFailed):
        fit(lambda: _made(_FUSED["no whole panel"]), Means(_BLOCKS, kernels, Format.INT8))
    assert "cannot be packed" in caplog.text
