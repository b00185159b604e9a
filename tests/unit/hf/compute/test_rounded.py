"""Weights in few bits are as near to the originals as they can be, and joined as they are."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute import rounded as rounding
from gateway_hf.compute.rounded import (
    Rounded,
    attach,
    joined,
    open_fours,
    prefers_narrow,
    round_to_bytes,
    round_to_fours,
    round_to_narrow,
    round_weights,
    weight_of,
)


def _drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("bytes_of", "group", "most"), [(round_to_bytes, 64, 127), (round_to_narrow, 32, 64)])
def test_bytes_are_within_half_a_step(bytes_of, group, most):
    weight = _drawn(40, 192)
    rounded = bytes_of(weight)
    assert rounded.numbers.dtype is torch.int8
    assert (rounded.group, int(rounded.numbers.abs().max())) == (group, most)
    step = rounded.scales.repeat_interleave(rounded.group, dim=1)
    assert bool(((rounded.floats() - weight).abs() <= step / 2 + 1e-6).all())


@pytest.mark.parametrize(
    ("flags", "narrow"),
    [
        ({"avx2", "fma"}, True),
        ({"avx2"}, False),
        ({"avx2", "fma", "avx_vnni"}, False),
        ({"avx2", "fma", "avx512f"}, False),
        ({"avx2", "fma", "avx512f", "avx512_vnni"}, False),
        ({"asimd"}, False),
    ],
)
def test_bytes_are_narrow_where_pairs_of_whole_ones_do_not_fit(monkeypatch, flags, narrow):
    monkeypatch.setattr(rounding, "processor_flags", lambda: frozenset(flags))
    assert prefers_narrow.__wrapped__() == narrow


def test_fours_are_nearer_than_the_whole_range_of_a_group():
    weight = _drawn(2_000, 96)
    rounded = round_to_fours(weight)
    assert (rounded.numbers.dtype, rounded.group, int(rounded.numbers.max())) == (torch.uint8, 32, 15)
    groups = weight.view(2_000, 3, 32)
    least, most = groups.aminmax(dim=-1, keepdim=True)
    step = (most - least) / 15
    plain = (((groups - least) / step).round() * step + least).view(2_000, 96)
    assert float((rounded.floats() - weight).norm()) < 0.94 * float((plain - weight).norm())


@pytest.mark.parametrize("scale", [0.5, 2.0**-7])
def test_what_has_four_bits_already_is_kept_exactly(scale):
    numbers = torch.randint(0, 16, (30, 64), generator=torch.Generator().manual_seed(0))
    numbers[:, ::32], numbers[:, 1::32] = 0, 15
    weight = numbers * scale - 3 * scale
    assert torch.equal(round_to_fours(weight).floats(), weight)


def test_a_group_of_one_number_is_that_number():
    assert torch.equal(round_to_fours(torch.full((3, 32), -0.75)).floats(), torch.full((3, 32), -0.75))
    assert torch.equal(round_to_fours(torch.zeros(3, 32)).floats(), torch.zeros(3, 32))


def test_weights_of_one_kind_are_joined_as_they_are_and_others_as_floats():
    layers = [nn.Linear(64, size, bias=size == 3) for size in (5, 3)]
    fours = [round_to_fours(layer.weight.detach()) for layer in layers]
    for layer, rounded in zip(layers, fours, strict=True):
        attach(layer, rounded)
    weight, bias = joined(layers)
    assert isinstance(weight, Rounded)
    assert torch.equal(weight.floats(), torch.cat([each.floats() for each in fours]))
    assert bias.tolist() == [0.0] * 5 + layers[1].bias.tolist()
    attach(layers[1], round_to_bytes(layers[1].weight.detach()))
    weight, _ = joined(layers)
    assert torch.equal(weight, torch.cat([layer.weight for layer in layers]))


def test_a_model_computes_with_what_its_layers_were_rounded_to():
    shape = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4, tie_word_embeddings=False))
    head, up = model.lm_head.weight.clone(), model.model.layers[0].mlp.up_proj.weight.clone()
    round_weights(model)
    mlp = model.model.layers[0].mlp
    assert torch.equal(model.lm_head.weight, head)
    assert isinstance(weight_of(model.lm_head)[0], torch.Tensor)
    assert not torch.equal(mlp.up_proj.weight, up)
    assert torch.equal(weight_of(mlp.up_proj)[0].floats(), mlp.up_proj.weight)
    assert isinstance(weight_of(mlp.down_proj)[0], torch.Tensor)  # 80 are no whole groups


def test_the_transposed_layers_of_gpt2_are_rounded_along_their_depth():
    layer = Conv1D(48, 64)
    model = nn.Sequential(layer)
    model.get_output_embeddings = lambda: None
    round_weights(model)
    rounded = weight_of(layer)[0]
    assert rounded.numbers.shape == (48, 64)
    assert torch.equal(rounded.floats(), layer.weight.T)


@pytest.mark.parametrize(("depth", "group"), [(192, 192), (512, 256), (128, 128), (448, 64)])
@pytest.mark.parametrize("sign", [1, -1])  # blocks of GGUF files have scales below zero too
@pytest.mark.parametrize("lift", [0.0, 3.0, -40.0])
def test_four_bits_become_bytes_that_are_near_what_they_stand_for(depth, group, sign, lift):
    torch.manual_seed(4)
    rounded = round_to_fours(torch.randn(20, depth) * torch.rand(20, 1) + lift)
    rounded = rounded._replace(scales=sign * rounded.scales)
    opened = open_fours(rounded)
    assert opened is not None
    assert 0 <= opened.slopes.min() <= opened.slopes.max() <= 255
    assert opened.starts.abs().max() <= 127
    numbers = (opened.numbers.view(20, -1, 32).int() * opened.slopes[..., None] >> 4) + opened.starts[..., None]
    assert numbers.abs().max() <= 127
    assert torch.equal(numbers.view(20, -1, group).sum(-1).int(), opened.sums)
    floats = numbers.view(20, -1, group) * opened.scales[..., None]
    off = (floats.view(20, depth) - rounded.floats()).view(20, -1, group).abs().amax(-1)
    # What is cut off of a product, the half of a start, and of a slope a 32nd for each of fifteen steps.
    assert (off <= (1 + 0.5 + 15 / 32) * opened.scales).all()
    mean = (floats.view(20, -1, 32).mean(-1) - rounded.floats().view(20, -1, 32).mean(-1)).abs()
    # Half of a start, and as much again where the largest byte would be none.
    assert (mean <= opened.scales.repeat_interleave(group // 32, 1)).all()


def test_a_group_of_zeros_is_opened_into_zeros():
    weight = torch.randn(4, 384)
    weight[1] = 0.0
    weight[2, :192] = 0.0
    opened = open_fours(round_to_fours(weight))
    assert opened is not None
    assert opened.slopes.abs().max() <= 255
    assert opened.sums[1].tolist() == [0, 0]
    assert opened.sums[2, 0] == 0
    assert (opened.starts[1] == 0).all()


def test_what_has_no_offsets_or_a_depth_for_no_group_is_not_opened():
    assert open_fours(round_to_bytes(torch.randn(4, 192))) is None
    assert open_fours(round_to_fours(torch.randn(4, 96))) is None
