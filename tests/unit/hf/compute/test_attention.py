"""Attention over blocks is attention: torch's own, over the keys and values of each sequence laid out plainly."""

from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from gateway_hf.compute.attention import NativeAttention, StockAttention, UnsupportedAttention
from gateway_hf.compute.kernels import LARGEST_HEAD
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.compute.layout import BatchLayout
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import numbers, scattered, seated

_CPU = torch.device("cpu")
# How long sequences are, and how many tokens of each are computed at last: a prompt in one go, one that goes on
# within a block and one across blocks, four that decode, a draft, a prompt whose rows share what they read.
_LENGTHS = (37, 50, 33, 70, 1, 16, 17, 90, 200)
_LAST = (37, 7, 20, 1, 1, 1, 1, 4, 130)


class Shape(NamedTuple):
    queries: int = 4
    keys: int = 2
    size: int = 16
    window: int = 0
    cap: float = 0.0
    scale: float | None = None
    sinks: bool = False

    def drawn_sinks(self):
        """Draw scores as large as the largest of tokens, and much smaller ones: `[queries]`."""
        return torch.randn(self.queries, generator=torch.Generator().manual_seed(3)) * 3 if self.sinks else None


_SHAPES = {
    "small heads": Shape(size=8),
    "of 64": Shape(size=64),
    "of 80": Shape(size=80),
    "of 72": Shape(size=72),
    "of 256": Shape(queries=2, keys=1, size=256),
    "one key for all": Shape(queries=9, keys=1),
    "three for each": Shape(queries=9, keys=3, size=64),
    "each its own": Shape(queries=3, keys=3),
    "window": Shape(window=20),
    "window of one": Shape(window=1),
    "window of a block": Shape(window=16, size=64),
    "window beyond all": Shape(window=1000),
    "cap": Shape(cap=5.0),
    "cap and window": Shape(cap=2.0, window=33, queries=6, keys=2),
    "scale": Shape(scale=0.9),
    "sinks": Shape(sinks=True),
    "eight for one, cap and window": Shape(queries=8, keys=1, size=64, cap=5.0, window=33),
    "of 96": Shape(queries=6, keys=1, size=96),
    "sinks, cap and window": Shape(sinks=True, queries=6, cap=5.0, window=20, size=64),
}


class _Layer(nn.Module):
    layer_idx = 0


def _attention(kernels, blocks, dtype, *, rounded=False):
    cache = KvCache(blocks, dtype, _CPU, kernels, rounded=rounded)
    return StockAttention(cache) if kernels is None else NativeAttention(cache, kernels)


def _drawn(shape, dtype, seed):
    """Draw queries, keys and values `[1, heads, tokens, size]` for each length."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape.queries, shape.keys, shape.keys)
    return [
        [torch.randn(1, heads, length, shape.size, generator=generator).to(dtype) for heads in sizes]
        for length in _LENGTHS
    ]


def _run(attention, shape, drawn, tables, parts):
    """Compute `parts[s] = (from, to)` of each sequence in one pass; return `[to - from, heads, size]` of each."""
    chunks = [
        Chunk(seated(numbers(to), table, start), to - start)
        for table, (start, to) in zip(tables, parts, strict=True)
        if to > start
    ]
    attention.rows = BatchLayout(chunks)
    if isinstance(attention, NativeAttention):
        attention._kernels.begin(attention.rows.batch)
    query, key, value = (
        torch.cat([each[side][:, :, start:to] for each, (start, to) in zip(drawn, parts, strict=True)], dim=2)
        for side in range(3)
    )
    limits = {"sliding_window": shape.window or None, "softcap": shape.cap or None, "s_aux": shape.drawn_sinks()}
    out, nothing = attention(_Layer(), query, key, value, None, scaling=shape.scale, is_causal=True, **limits)
    assert nothing is None
    assert out.dtype is query.dtype
    return out[0].split([to - start for start, to in parts])


def _in_two_passes(kernels, shape, dtype, seed=0, *, rounded=False):
    drawn = _drawn(shape, dtype, seed)
    tables, blocks = scattered(_LENGTHS, seed)
    attention = _attention(kernels, blocks, dtype, rounded=rounded)
    firsts = [length - last for length, last in zip(_LENGTHS, _LAST, strict=True)]
    _run(attention, shape, drawn, tables, [(0, first) for first in firsts])
    found = _run(attention, shape, drawn, tables, list(zip(firsts, _LENGTHS, strict=True)))
    return drawn, found


def _expected(shape, query, key, value, last):
    """What torch says of a sequence by itself, in float64, of its `last` tokens: `[last, heads, size]`."""
    length, group = query.shape[2], shape.queries // shape.keys
    q = query.double()
    k, v = (each.double().repeat_interleave(group, 1) for each in (key, value))
    token, at = torch.arange(length)[None], torch.arange(length)[:, None]
    mask = (token <= at) & (token > at - shape.window if shape.window else True)
    scale = shape.size**-0.5 if shape.scale is None else shape.scale
    if shape.sinks:  # as one more key, whose score is the sink and whose value is zero
        scores = q @ k.transpose(-1, -2) * scale
        scores = shape.cap * torch.tanh(scores / shape.cap) if shape.cap else scores
        sinks = shape.drawn_sinks().double()[None, :, None, None].expand(1, -1, length, 1)
        scores = torch.cat([scores.masked_fill(~mask, float("-inf")), sinks], -1)
        said = scores.softmax(-1)[..., :-1] @ v
    elif not shape.cap:
        said = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    else:
        scores = shape.cap * torch.tanh(q @ k.transpose(-1, -2) * scale / shape.cap)
        said = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
    return said[0, :, length - last :].transpose(0, 1)


@pytest.fixture(params=["native", "stock"])
def team(request):
    """The kernels, or none."""
    return request.getfixturevalue("kernels") if request.param == "native" else None


@pytest.mark.parametrize("name", _SHAPES)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_it_is_torchs_own_over_scattered_blocks(team, name, dtype, off):
    shape = _SHAPES[name]
    drawn, found = _in_two_passes(team, shape, dtype)
    for each, ours, last in zip(drawn, found, _LAST, strict=True):
        torch.testing.assert_close(ours.double(), _expected(shape, *each, last), rtol=0, atol=off)


def _rounded(numbers):
    """What 8 bits keep of keys or values `[1, heads, tokens, size]`: each has a scale of its own."""
    scales = numbers.float().abs().amax(-1, keepdim=True) / 127
    return (numbers.float() / scales).round() * scales


@pytest.mark.parametrize("name", _SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_8_bits_it_is_torchs_own_of_the_rounded_keys_and_values(team, name, dtype):
    shape = _SHAPES[name]
    drawn, found = _in_two_passes(team, shape, dtype, rounded=True)
    off = 1e-3 if dtype is torch.float32 else 3e-2
    for (query, key, value), ours, last in zip(drawn, found, _LAST, strict=True):
        # Where a processor multiplies bytes by bytes, queries are rounded too.
        asked = (_rounded(query), query) if team else (query,)
        expected = [_expected(shape, each, _rounded(key), _rounded(value), last) for each in asked]
        assert min(float((ours.double() - each).abs().max()) for each in expected) < off


def test_in_8_bits_many_small_weights_beside_a_large_one_are_not_lost(team):
    """Half of what the last token sees is its own value, the rest that of 63 others, which are alike."""
    length, size = 64, 16
    attention = _attention(team, 4, torch.float32, rounded=True)
    query, key = torch.zeros(1, 1, length, size), torch.zeros(1, 1, length, size)
    query[..., 0] = 1
    key[..., -1, 0] = torch.tensor(float(length - 1)).log()
    value = torch.ones(1, 1, length, size)
    value[..., -1, :] = -1
    (found,) = _run(attention, Shape(1, 1, size, scale=1.0), [[query, key, value]], [[0, 1, 2, 3]], [(0, length)])
    torch.testing.assert_close(found[-1, 0], torch.zeros(size), rtol=0, atol=1e-3)


@pytest.mark.parametrize("rounded", [False, True])
def test_what_a_former_owner_left_reaches_nobody(team, rounded):
    shape = Shape(size=24)
    drawn, expected = _in_two_passes(team, shape, torch.float32, rounded=rounded)
    tables, blocks = scattered(_LENGTHS, 0)
    attention = _attention(team, blocks, torch.float32, rounded=rounded)
    # Four bytes of ones are a scale that is no number.
    attention.cache.layer(0, shape.keys, shape.size).fill_(-1 if rounded else torch.nan)
    for scales in attention.cache._scales.values():
        scales.fill_(torch.nan)
    firsts = [length - last for length, last in zip(_LENGTHS, _LAST, strict=True)]
    _run(attention, shape, drawn, tables, [(0, first) for first in firsts])
    found = _run(attention, shape, drawn, tables, list(zip(firsts, _LENGTHS, strict=True)))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("side", [1, 2])
def test_a_sequence_of_no_numbers_is_so_alone(team, rounded, side):
    shape = Shape()
    drawn, expected = _in_two_passes(team, shape, torch.float32, rounded=rounded)
    poisoned = 3
    drawn[poisoned][side][:, :, 40] = torch.nan
    tables, blocks = scattered(_LENGTHS, 0)
    attention = _attention(team, blocks, torch.float32, rounded=rounded)
    firsts = [length - last for length, last in zip(_LENGTHS, _LAST, strict=True)]
    _run(attention, shape, drawn, tables, [(0, first) for first in firsts])
    found = _run(attention, shape, drawn, tables, list(zip(firsts, _LENGTHS, strict=True)))
    for at, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.isnan().any() == (at == poisoned)
        assert at == poisoned or torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "name",
    [
        *("three for each", "window", "cap and window", "of 80", "sinks"),
        *("eight for one, cap and window", "of 96", "sinks, cap and window"),
    ],
)
@pytest.mark.parametrize(("dtype", "rounded"), [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)])
def test_a_row_gets_the_same_bits_whatever_its_company(kernels, name, dtype, rounded):
    shape = _SHAPES[name]
    drawn, together = _in_two_passes(kernels, shape, dtype, rounded=rounded)
    for at, (length, last) in enumerate(zip(_LENGTHS, _LAST, strict=True)):
        tables, blocks = scattered([length], 5)
        attention = _attention(kernels, blocks, dtype, rounded=rounded)
        for start in range(length):
            part = [(start, start + 1)]
            (alone,) = _run(attention, shape, [drawn[at]], tables, part)
            if start >= length - last:
                assert torch.equal(alone[0], together[at][start - length + last])


@pytest.mark.parametrize(
    "strange", [{"attention_mask": torch.ones(1)}, {"s_aux": torch.ones(1)}, {"dropout": 0.1}, {"unheard_of": 1}]
)
def test_what_is_not_built_here_is_refused(strange):
    attention = _attention(None, 4, torch.float32)
    attention.rows = BatchLayout([Chunk(seated(numbers(3), [0]), 3)])
    states = torch.zeros(1, 2, 3, 8)
    given = {"attention_mask": None} | strange
    with pytest.raises(UnsupportedAttention):
        attention(_Layer(), states, states, states, **given)


def test_values_of_another_size_than_keys_are_refused():
    attention = _attention(None, 4, torch.float32)
    attention.rows = BatchLayout([Chunk(seated(numbers(3), [0]), 3)])
    with pytest.raises(UnsupportedAttention):
        attention(_Layer(), torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 4), None)


def test_heads_larger_than_the_kernels_room_are_refused(kernels):
    attention = _attention(kernels, 4, torch.float32)
    attention.rows = BatchLayout([Chunk(seated(numbers(3), [0]), 3)])
    states = torch.zeros(1, 1, 3, LARGEST_HEAD + 16)
    with pytest.raises(UnsupportedAttention, match=str(LARGEST_HEAD + 16)):
        attention(_Layer(), states, states, states, None)
