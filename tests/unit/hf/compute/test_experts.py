"""Mixtures of experts in fused layers say what the layers say; over tiny random models made on the spot."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Ernie4_5_MoeConfig,
    Glm4MoeConfig,
    GptOssConfig,
    GraniteMoeConfig,
    HunYuanMoEV1Config,
    MixtralConfig,
    OlmoeConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

from gateway_hf.compute.experts import router_of
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import ExpertsStruct, Format, Scoring
from gateway_hf.compute.rounded import round_weights
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import numbers, read, scattered, seated

_BLOCKS = 12
_TOKENS = numbers(70)
_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}
_MANY = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32}
_GLM = _SHAPE | {"n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "head_dim": 16}
_SINKS = "gpt-oss, with sinks, biases and a limit"
_OSS = _SHAPE | {"num_local_experts": 8, "num_experts_per_tok": 3, "head_dim": 16, "sliding_window": 24}
_KINDS = {
    "mixtral": MixtralConfig(**_SHAPE, num_local_experts=4, sliding_window=None),
    "qwen2, with a part for all rows and its weight": Qwen2MoeConfig(
        **_SHAPE, **_MANY, shared_expert_intermediate_size=64
    ),
    "qwen3": Qwen3MoeConfig(**_SHAPE, **_MANY, head_dim=16, norm_topk_prob=True),
    "qwen3, scores as they are": Qwen3MoeConfig(**_SHAPE, **_MANY, head_dim=16, norm_topk_prob=False),
    "qwen3, the first layer without": Qwen3MoeConfig(**_SHAPE, **_MANY, head_dim=16, mlp_only_layers=[0]),
    "olmoe": OlmoeConfig(**_SHAPE | {"intermediate_size": 32}, num_experts=8, num_experts_per_tok=3),
    "granite": GraniteMoeConfig(
        **_SHAPE, num_local_experts=8, num_experts_per_tok=3, residual_multiplier=0.22, attention_multiplier=0.1
    ),
    "ernie, with a bias of the choice": Ernie4_5_MoeConfig(
        **_SHAPE,
        moe_num_experts=8,
        moe_k=3,
        moe_intermediate_size=32,
        moe_layer_start_index=1,
        moe_num_shared_experts=1,
    ),
    "hunyuan, with a router of parts": HunYuanMoEV1Config(
        **_SHAPE | {"intermediate_size": 32}, num_experts=8, moe_topk=3, head_dim=16
    ),
    _SINKS: GptOssConfig(**_OSS, swiglu_limit=1.5),
    "gpt-oss, with a limit that is seldom reached": GptOssConfig(**_OSS, swiglu_limit=9.0),
    "glm4": Glm4MoeConfig(**_GLM, first_k_dense_replace=1, routed_scaling_factor=2.5, n_group=1, topk_group=1),
}


def _made(config, dtype=torch.float32):
    """Draw a model whose norms, routers and their biases are none of them what they begin with."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if "inv_freq" not in name:
                weight.normal_(mean=float("norm" in name), std=0.2)
    return model.to(dtype)


def _fused(model, kernels, form):
    forward = fit(lambda: copy.deepcopy(model), Means(_BLOCKS, kernels, form)).forward
    layers = [each for each in forward._model.modules() if isinstance(each, FusedLayer)]
    assert len(layers) == 2
    assert layers[1].struct.experts
    return forward


def _off(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", _KINDS)
@torch.inference_mode()
def test_it_says_what_the_layers_say(kernels, name):
    model = _made(_KINDS[name])
    forward = _fused(model, kernels, Format.FLOAT32)
    tables, _ = scattered([_BLOCKS * 16])
    found = read(forward, _TOKENS, tables[0], (40, 13, 15, 1))
    assert _off(found[-1], model(torch.tensor([_TOKENS])).logits[0, -1]) < 1e-4


@pytest.mark.parametrize("form", [Format.BFLOAT16, Format.INT8, Format.INT4])
@torch.inference_mode()
def test_fewer_bits_are_near(kernels, form):
    model = _made(_KINDS["qwen2, with a part for all rows and its weight"])
    if form is Format.INT4:
        round_weights(model)
    forward = _fused(
        model.bfloat16() if form is Format.BFLOAT16 else model,
        kernels,
        Format.INT8 if form is Format.INT4 else form,
    )
    tables, _ = scattered([_BLOCKS * 16])
    found = read(forward, _TOKENS, tables[0], (40, 29))
    assert 1e-6 < _off(found[-1], model.float()(torch.tensor([_TOKENS])).logits[0, -1]) < 0.15


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("name", ["qwen2, with a part for all rows and its weight", "mixtral", "glm4", _SINKS])
@torch.inference_mode()
def test_a_row_gets_the_same_bits_whatever_its_company(kernels, form, name):
    model = _made(_KINDS[name])
    if form is Format.INT4:
        round_weights(model)
        form = Format.INT8
    forward = _fused(model.bfloat16() if form is Format.BFLOAT16 else model, kernels, form)
    lengths = [1, 30, 2, 17, 5, 40, 3, 9]
    tables, _ = scattered(lengths)
    everyone = [seated(numbers(length, length), table) for length, table in zip(lengths, tables, strict=True)]
    together, _ = forward.logits([Chunk(each, each.pending) for each in everyone])
    for each, said in zip(everyone, together, strict=True):
        whole, _ = forward.logits([Chunk(each, each.pending)])
        one_by_one = read(forward, each.tokens, each.blocks, [1] * (len(each.tokens) - 1))
        assert torch.equal(whole[0], said)
        assert torch.equal(one_by_one[-1], said)


def test_a_router_that_chooses_among_groups_of_experts_is_none_of_the_kernels():
    found = {}
    for groups in (1, 4):
        model = _made(Glm4MoeConfig(**_GLM, first_k_dense_replace=0, n_group=groups, topk_group=groups // 2 or 1))
        found[groups] = router_of(model.model.layers[0].mlp.gate, 3)
    assert found[4] is None
    assert found[1].scoring is Scoring.SIGMOID
    assert found[1].normalised


@torch.inference_mode()
def test_experts_that_compute_something_else_are_left_alone(kernels):
    def load():
        model = _made(_KINDS["qwen3"])
        experts = model.model.layers[1].mlp.experts
        experts.register_forward_hook(lambda *args: args[-1].clamp(-0.1, 0.1))
        return model

    forward = fit(load, Means(_BLOCKS, kernels, Format.FLOAT32)).forward
    assert not any(isinstance(each, FusedLayer) for each in forward._model.modules())


def test_a_limit_that_no_token_reaches_is_found(kernels):
    forward = _fused(_made(GptOssConfig(**_OSS, swiglu_limit=900.0)), kernels, Format.FLOAT32)
    first = next(each for each in forward._model.modules() if isinstance(each, FusedLayer))
    assert ExpertsStruct.from_address(first.struct.experts).limit == 900.0
