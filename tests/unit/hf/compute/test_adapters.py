"""Adapters on their own rows of a pass: what is said with one is what the merged weights say, whatever the company."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitNetConfig,
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    HeliumConfig,
    LlamaConfig,
    Phi3Config,
    Qwen3Config,
)

from gateway.engine import LoadFailed
from gateway_hf.compute import adapters as module
from gateway_hf.compute.adapters import AdaptedBatches, AdaptedSequences, LowRank
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.packed import PackedLinear
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import numbers, scattered, seated
from tests.support.tiny_adapters import ALL, draw_changes

_BLOCKS = 40
_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 2, "pad_token_id": 0}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_CONFIGS = {
    "fused": LlamaConfig(**_SHAPE, attention_bias=True, mlp_bias=True),
    "fused, with norms of heads": Qwen3Config(**_SHAPE, head_dim=24),
    "fused, in bytes": LlamaConfig(**_SHAPE | {"intermediate_size": 128}),
    "fused, joined": Phi3Config(**_SHAPE),
    "fused, turning in pairs": HeliumConfig(**_SHAPE, head_dim=16),
    "fused, transposed": GPT2Config(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=128),
    "fused, beside each other": GPTNeoXConfig(**_SHAPE),
    "fused, normed behind": Gemma2Config(**_SHAPE, head_dim=16),
    "packed": BitNetConfig(**_SHAPE | {"intermediate_size": 128}),
    "transposed": GPT2Config(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=128),
    "alone": GPTJConfig(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=128, rotary_dim=8),
}
_TARGETS = {
    "transposed": ("c_attn", "c_fc", "c_proj"),
    "fused, transposed": ("c_attn", "c_fc", "c_proj"),
    "fused, joined": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "fused, beside each other": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "alone": ("q_proj", "k_proj", "out_proj", "fc_in", "fc_out"),
}


def made(name, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(_CONFIGS[name])).eval()
        for parameter, weight in model.named_parameters():
            weight.normal_(mean=1.0 if "norm" in parameter else 0.0, std=0.2)
    return model.to(dtype)


def three(name):
    """Draw three adapters of different ranks, one of which changes two kinds of layers only."""
    model, targets = made(name), _TARGETS.get(name, ALL)
    return {
        "one": draw_changes(model, 1, 3, targets),
        "two": draw_changes(model, 2, 20, targets[1:3]),
        "three": draw_changes(model, 3, 8, targets),
    }


@torch.no_grad()
def merged(name, changes):
    model = made(name)
    for layer, low in changes.items():
        linear = model.get_submodule(layer)
        change = low.up @ low.down
        linear.weight += change if isinstance(linear, nn.Linear) else change.T
    return model


def fitted(name, changes, kernels, form=Format.FLOAT32, dtype=torch.float32):
    return fit(lambda: made(name, dtype), Means(_BLOCKS, kernels, form, adapters=changes)).forward


def crowd(lengths, adapters):
    tables, _ = scattered(lengths)
    sequences = [
        seated(numbers(length, at), table) for at, (length, table) in enumerate(zip(lengths, tables, strict=True))
    ]
    for sequence, adapter in zip(sequences, adapters, strict=True):
        sequence.adapter = adapter
    return sequences


def off(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("name", "by"),
    [(name, "kernels") for name in _CONFIGS if name.startswith(("fused", "packed")) and "bytes" not in name]
    + [(name, "torch") for name in ("fused", "transposed", "alone")],
)
@torch.inference_mode()
def test_rows_with_an_adapter_say_what_the_merged_weights_say(kernels, name, by):
    changes = three(name)
    forward = fitted(name, changes, kernels if by == "kernels" else None)
    assert isinstance(forward, AdaptedSequences if name == "alone" else AdaptedBatches)
    if by == "kernels":
        kind = FusedLayer if name.startswith("fused") else PackedLinear
        assert any(isinstance(each, kind) for each in forward._forward._model.modules())
    models = [made(name), *(merged(name, each) for each in changes.values())]
    # Two steps each: a prompt in chunks beside others, in an order that no adapter's rows follow each other in.
    sequences = crowd([5, 30, 2, 17, 1, 40, 3, 9], [2, 0, 1, 2, 3, 1, 0, 3])
    first = [Chunk(each, -(-len(each.tokens) // 2)) for each in sequences]
    forward.logits(first)
    for each, tokens in first:
        each.computed += tokens
    said, counts = forward.logits([Chunk(each, each.pending) for each in sequences if each.pending])
    rest = [each for each in sequences if each.pending]
    assert counts == [1] * len(rest)
    for each, row in zip(rest, said, strict=True):
        exact = models[each.adapter](torch.tensor([each.tokens])).logits[0, -1]
        assert off(row, exact) < 1e-4
        others = [model for number, model in enumerate(models) if number != each.adapter]
        assert all(off(row, model(torch.tensor([each.tokens])).logits[0, -1]) > 1e-2 for model in others)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("fused", Format.FLOAT32),
        ("fused", Format.BFLOAT16),
        ("fused, in bytes", Format.INT8),
        ("packed", Format.FLOAT32),
        ("packed", Format.BFLOAT16),
        ("packed", Format.INT8),
    ],
)
@torch.inference_mode()
def test_a_row_gets_the_same_bits_whatever_its_company(kernels, name, form):
    dtype = torch.bfloat16 if form is Format.BFLOAT16 else torch.float32
    changes = {
        which: {layer: LowRank(down, 0.2 * up) for layer, (down, up) in own.items()}
        for which, own in three(name).items()
    }
    forward = fitted(name, changes, kernels, form, dtype)
    plain = fit(lambda: made(name, dtype), Means(_BLOCKS, kernels, form)).forward
    sequences = crowd([1, 30, 2, 17, 5, 40, 3, 9, 21], [1, 0, 2, 3, 3, 1, 0, 2, 1])
    together, _ = forward.logits([Chunk(each, each.pending) for each in sequences])
    for each, said in zip(sequences, together, strict=True):
        (alone,), _ = forward.logits([Chunk(each, each.pending)])
        assert torch.equal(alone, said)
        for _ in range(len(each.tokens)):
            (last, _), each.computed = forward.logits([Chunk(each, 1)]), each.computed + 1
        assert torch.equal(last[0], said)
        if not each.adapter:
            each.computed = 0
            (without,), _ = plain.logits([Chunk(each, each.pending)])
            assert torch.equal(without, said)


@torch.inference_mode()
def test_a_step_without_adapters_is_that_of_a_model_without_any(kernels, monkeypatch):
    def never(*_):
        raise AssertionError("an adapter was applied")

    forward = fitted("fused", three("fused"), kernels)
    monkeypatch.setattr(module.Adapters, "over", never)
    said, counts = forward.logits([Chunk(each, each.pending) for each in crowd([5, 9], [0, 0])])
    assert (len(said), counts) == (2, [1, 1])


@torch.inference_mode()
def test_rows_come_back_in_the_order_of_their_chunks(kernels):
    forward = fitted("fused", three("fused"), kernels)
    sequences = crowd([9, 4, 6, 30], [2, 1, 0, 1])
    for each in sequences:
        each.ranks = 0  # all rows are wanted
    said, counts = forward.logits([Chunk(each, len(each.tokens)) for each in sequences])
    assert counts == [9, 4, 6, 30]
    for each, rows in zip(sequences, torch.split(said, counts), strict=True):
        assert torch.equal(forward.logits([Chunk(each, len(each.tokens))])[0], rows)


class Unused(nn.Module):
    """A layer that the model has, and never calls."""

    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(64, 64)


def test_a_layer_that_is_never_called_is_named():
    def load():
        model = made("fused")
        model.model.unused = Unused()
        return model

    low = LowRank(torch.zeros(2, 64), torch.zeros(64, 2))
    with pytest.raises(
        LoadFailed, match=r"the adapter 'odd' changes 'model.unused.extra', which the model's code does not"
    ):
        fit(load, Means(_BLOCKS, None, None, adapters={"odd": {"model.unused.extra": low}}))


def test_an_adapter_that_leaves_no_numbers_is_named():
    model = made("fused")
    huge = {layer: LowRank(1e30 * down, 1e30 * up) for layer, (down, up) in draw_changes(model, 1, 2, ALL).items()}
    with pytest.raises(LoadFailed, match="with the adapter 'huge' the model computes no numbers"):
        fit(lambda: made("fused"), Means(_BLOCKS, None, None, adapters={"huge": huge}))


def test_nothing_keeps_the_weights_that_were_packed(kernels):
    forward = fitted("fused", three("fused"), kernels)
    assert len(forward._adapters._layers) == 0
