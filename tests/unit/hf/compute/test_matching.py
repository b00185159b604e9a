"""Pieces are found by what parts do; a layer that does anything else besides is none of the kernels'."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GlmConfig, GPTNeoXConfig, GraniteConfig, LlamaConfig, OPTConfig

from gateway_hf.compute.attention import StockAttention
from gateway_hf.compute.changes import trace
from gateway_hf.compute.fitting import _adopt
from gateway_hf.compute.forward import BatchedForward
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.compute.matching import match_layer
from gateway_hf.compute.pieces import Rotation
from gateway_hf.compute.trial import Misfit

_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "pad_token_id": 0}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


def _traced(config, dtype=torch.float32, change=lambda layer: None):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval().to(dtype)
        for weight in model.parameters():
            weight.normal_(std=0.2)
    attention = StockAttention(KvCache(2, dtype, torch.device("cpu"), None))
    _adopt(model, attention)
    forward = BatchedForward(model, attention, None)
    layers = next(each for each in model.base_model.modules() if isinstance(each, nn.ModuleList))
    change(layers[0])
    with torch.inference_mode():
        return trace(model, forward, attention)[0], attention.heads[0]


def _matched(config, **given):
    return match_layer(*_traced(config, **given))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_described_by_its_pieces(dtype):
    llama = _matched(LlamaConfig(**_SHAPE), dtype=dtype)
    assert (llama.gated, llama.parallel, llama.scale, llama.companions) == (True, False, 1.0, None)
    assert None not in (llama.before, llama.between)
    assert (llama.attended, llama.after) == (None, None)
    assert (len(llama.heads.qkv), llama.heads.rotation, llama.heads.rotary) == (3, Rotation.HALVES, 16)
    neox = _matched(GPTNeoXConfig(**_SHAPE, rotary_pct=0.5), dtype=dtype)
    assert (neox.gated, neox.parallel, len(neox.heads.qkv), neox.heads.rotary) == (False, True, 1, 8)
    glm = _matched(GlmConfig(**_SHAPE, head_dim=16), dtype=dtype)
    assert (len(glm.up), glm.heads.rotation) == (1, Rotation.PAIRS)
    assert _matched(GraniteConfig(**_SHAPE, residual_multiplier=0.22), dtype=dtype).scale == 0.22
    opt = _matched(OPTConfig(**_SHAPE, ffn_dim=128, word_embed_proj_dim=64), dtype=dtype)
    assert (opt.heads.rotation, opt.heads.multiplier) == (Rotation.NONE, 0.25)


def test_two_norms_that_make_the_same_are_both_used():
    def equal(layer):
        layer.post_attention_layernorm.load_state_dict(layer.input_layernorm.state_dict())

    found = _matched(GPTNeoXConfig(**_SHAPE), change=equal)
    assert found.parallel
    assert found.between is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda layer: layer.register_forward_hook(lambda _, __, made: made * 1.2), "what it returns"),
        (
            lambda layer: layer.self_attn.register_forward_hook(lambda _, __, made: (made[0] * 1.5, None)),
            "stands between",
        ),
        (lambda layer: setattr(layer.mlp, "act_fn", nn.Mish()), "activation"),
        (lambda layer: setattr(layer, "input_layernorm", nn.Tanh()), "norm"),
        (lambda layer: layer.mlp.register_forward_pre_hook(lambda _, given: (given[0] * 1.1,)), "stands between"),
        (lambda layer: setattr(layer, "more", nn.Linear(4, 4)), "its more.weight is no piece"),
        (lambda layer: setattr(layer.self_attn, "o_proj", nn.Sequential(nn.Tanh(), nn.Linear(64, 64))), "no linear"),
    ],
)
def test_what_a_layer_does_besides_is_noticed(change, says):
    with pytest.raises(Misfit, match=says):
        _matched(LlamaConfig(**_SHAPE), change=change)
