"""What goes far in rows is moved into weights, before they are rounded to bytes."""

from functools import partial

import pytest
import torch
from torch.nn.functional import linear
from transformers import GPTNeoXConfig, LlamaConfig

from gateway_hf.compute import fused
from gateway_hf.compute import packed as packing
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.smoothing import round_widely
from gateway_hf.compute.trial import TRIAL_BLOCKS
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import drawn_model, numbers, seated
from tests.support.tiny_adapters import draw_changes


def _drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def far():
    """Give rows in which three numbers go far."""
    x = _drawn(40, 576, seed=1)
    x[:, [3, 200, 570]] *= 300
    return x


@pytest.mark.parametrize(("depth", "group"), [(576, 192), (1024, 256), (896, 128), (320, 64), (96, 32)])
def test_groups_are_as_wide_as_fit(depth, group):
    weight = _drawn(20, depth)
    rounded = round_widely(weight)
    assert (rounded.group, rounded.factors) == (group, None)
    assert (rounded.floats() - weight).abs().max() < weight.abs().max() / 250


def test_factors_round_nothing_and_leave_the_weight_what_it_is(far):
    weight = _drawn(50, 576)
    rounded = round_widely(weight, far.abs().amax(0))
    assert torch.equal(rounded.factors.log2(), rounded.factors.log2().round())
    off = (rounded.floats() - weight).abs() * rounded.factors
    assert (off <= 0.501 * rounded.scales.repeat_interleave(rounded.group, 1)).all()


def test_rows_that_are_smoothed_lose_less_by_bytes(kernels, far):
    weight = _drawn(50, 576)
    exact = linear(far, weight)
    off = []
    for reach in (None, far.abs().amax(0)):
        rounded = round_widely(weight, reach)
        packed = Packed(rounded, None, Format.INT8, kernels)
        assert (packed.factors is None) == (reach is None)
        rows = far if reach is None else far / packed.factors
        off.append((kernels.multiply(packed.struct, rows) - exact).norm())
    assert off[1] < off[0] / 4


def test_numbers_that_were_not_seen_and_weights_of_zero_are_left_alone():
    weight, reach = _drawn(10, 64), torch.ones(64)
    weight[:, 3] = 0
    reach[5] = 0
    reach[7], reach[9] = torch.nan, torch.inf
    factors = round_widely(weight, reach).factors
    assert factors[[3, 5, 7, 9]].tolist() == [1.0] * 4
    assert round_widely(torch.zeros(4, 64), torch.zeros(64)).factors.tolist() == [1.0] * 64


def test_nothing_is_moved_farther_than_its_places_allow():
    reach = torch.ones(64)
    reach[0] = 1e30
    rounded = round_widely(torch.ones(4, 64), reach)
    assert rounded.factors.max() == 256
    assert rounded.floats().isfinite().all()


_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "pad_token_id": 0}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_FEEDS = {
    "llama": (
        LlamaConfig(**_SHAPE, attention_bias=True),
        {"input_layernorm": ("q_proj", "k_proj", "v_proj"), "post_attention_layernorm": ("gate_proj", "up_proj")},
    ),
    "beside each other": (
        GPTNeoXConfig(**_SHAPE),
        {"input_layernorm": ("query_key_value",), "post_attention_layernorm": ("dense_h_to_4h",)},
    ),
}


def _far_model(name):
    """Draw a model in whose layers some numbers go far, and their weights are as much smaller."""
    config, feeds = _FEEDS[name]
    model = drawn_model(config)
    far = torch.ones(64)
    far[[1, 30, 50]] = 128.0
    linears = {each: norm for norm, names in feeds.items() for each in names}
    with torch.no_grad():
        for path, part in model.named_modules():
            own = path.rpartition(".")[2]
            if own in feeds:
                for weight in part.parameters():
                    weight.mul_(far)
            elif own in linears:
                part.weight.div_(far)
    return model


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", _FEEDS)
@torch.inference_mode()
def test_a_model_with_far_numbers_says_the_same_in_bytes(kernels, monkeypatch, name, adapted):
    monkeypatch.setattr(fused, "prefers_narrow", lambda: False)
    monkeypatch.setattr(packing, "prefers_narrow", lambda: False)
    targets = [each for names in _FEEDS[name][1].values() for each in names]
    changes = {"a": draw_changes(_far_model(name), 1, 4, tuple(targets))} if adapted else {}
    sequence = seated(numbers(20), [0, 1])
    sequence.adapter = int(adapted)
    said = []
    for form in (Format.FLOAT32, Format.INT8):
        means = Means(TRIAL_BLOCKS, kernels, form, adapters=changes)
        said.append(fit(partial(_far_model, name), means).forward.logits([Chunk(sequence, 20)])[0].clone())
    assert (said[1] - said[0]).norm() < 0.06 * said[0].norm()
