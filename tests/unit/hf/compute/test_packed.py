"""Packed weights multiply as torch does, in every format and shape."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute import packed as packing
from gateway_hf.compute.kernels import Format, Kernels
from gateway_hf.compute.packed import NotPackable, Packed, PackedLinear, SharedMemory
from gateway_hf.compute.rounded import (
    FOUR_GROUP,
    Rounded,
    open_fours,
    round_to_bytes,
    round_to_fours,
    round_to_narrow,
    weight_of,
)
from gateway_hf.settings import Settings, cache_folder

_DTYPES = dict.fromkeys(Format, torch.float32) | {Format.BFLOAT16: torch.bfloat16}
_ROUNDED = {Format.INT8, Format.INT4}
# Columns that fill their last panel, that do not, and that do not fill one.
_SHAPES = [(64, 128), (49, 64), (3, 192), (1, 64), (130, 384), (16, 576)]


@pytest.fixture(params=[*Format, "narrow bytes"])
def form(request, monkeypatch):
    """Give each format; bytes whole and narrow, whatever this processor prefers."""
    narrow = request.param == "narrow bytes"
    monkeypatch.setattr(packing, "prefers_narrow", lambda: narrow)
    return Format.INT8 if narrow else request.param


def _rounded(weight, form):
    if form is Format.INT4:
        return round_to_fours(weight).floats()
    bytes_of = round_to_narrow if packing.prefers_narrow() else round_to_bytes
    return bytes_of(weight).floats() if form is Format.INT8 else weight


def _drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 9, 130])
def test_it_multiplies_as_torch_does(kernels, form, shape, biased, rows):
    dtype, (columns, depth) = _DTYPES[form], shape
    weight = _drawn(columns, depth, dtype=dtype)
    bias = _drawn(columns, seed=1, dtype=dtype) if biased else None
    x = _drawn(rows, depth, seed=2, dtype=dtype)
    expected = linear(x.double(), _rounded(weight, form).double(), None if bias is None else bias.double())
    packed = Packed(weight, bias, form, kernels)
    found = kernels.multiply(packed.struct, x)
    assert found.dtype is torch.float32
    assert found.shape == (rows, columns)
    # Bytes of a row keep 1 part in 254 of the largest number of a group; formats of floats only sum in another order.
    off = 0.05 * depth**0.5 if form in _ROUNDED else 1e-4
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=off)


def test_a_row_gets_the_same_bits_whatever_its_company(kernels, form):
    x = _drawn(330, 192, dtype=_DTYPES[form])
    packed = Packed(_drawn(130, 192, seed=1, dtype=_DTYPES[form]), None, form, kernels)
    whole = kernels.multiply(packed.struct, x)
    for first, count in [(0, 1), (329, 1), (3, 2), (5, 3), (8, 8), (11, 13), (1, 66), (40, 256), (33, 290)]:
        assert torch.equal(
            kernels.multiply(packed.struct, x[first : first + count].clone()), whole[first : first + count]
        )


@pytest.mark.parametrize("form", Format)
def test_a_depth_that_cannot_be_packed_is_known_before(form):
    fitting = {depth for depth in range(1, 400) if Packed.fits(depth, form)}
    assert (
        fitting
        == {
            Format.FLOAT32: set(range(1, 400)),
            Format.BFLOAT16: set(range(2, 400, 2)),
            Format.INT8: set(range(32, 400, 32)),
            Format.INT4: set(range(32, 400, 32)),
        }[form]
    )


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(("narrow", "off"), [(False, 0.5), (True, 0.8)])
def test_bytes_keep_every_scale(kernels, monkeypatch, scale, narrow, off):
    monkeypatch.setattr(packing, "prefers_narrow", lambda: narrow)
    weight, x = _drawn(32, 128) * scale, _drawn(5, 128, seed=1) / scale
    packed = Packed(weight, None, Format.INT8, kernels)
    found = kernels.multiply(packed.struct, x)
    torch.testing.assert_close(found, linear(x, weight), rtol=0, atol=off)


def test_what_is_rounded_nothing_stays_nothing(kernels, form):
    dtype = _DTYPES[form]
    packed = Packed(torch.zeros(20, 64, dtype=dtype), torch.ones(20, dtype=dtype), form, kernels)
    assert torch.equal(kernels.multiply(packed.struct, torch.zeros(2, 64, dtype=dtype)), torch.ones(2, 20))


def test_no_number_stays_in_its_own_row(kernels, form):
    x = _drawn(12, 128, dtype=_DTYPES[form])
    packed = Packed(_drawn(40, 128, seed=1, dtype=_DTYPES[form]), None, form, kernels)
    expected = kernels.multiply(packed.struct, x)
    x[5] = torch.nan
    found = kernels.multiply(packed.struct, x)
    assert found[5].isnan().all()
    others = [row for row in range(12) if row != 5]
    assert torch.equal(found[others], expected[others])


@pytest.mark.parametrize("place", [0, 15, 16, 40, 63, 127])
def test_one_that_is_no_number_is_lost_in_no_group(kernels, form, place):
    x = _drawn(6, 128, dtype=_DTYPES[form])
    packed = Packed(_drawn(40, 128, seed=1, dtype=_DTYPES[form]), None, form, kernels)
    x[2, place] = torch.nan
    for rows in (x, x[2:3], x.repeat(4, 1)):
        assert kernels.multiply(packed.struct, rows).isnan().all(-1).sum() == max(1, len(rows) // 6)


def test_what_is_rounded_already_is_packed_as_it_is(kernels):
    fours, x = round_to_fours(_drawn(50, 96)), _drawn(7, 96, seed=1)
    once, twice = (Packed(weight, None, Format.INT8, kernels) for weight in (fours, fours.floats()))
    assert (once.struct.format, twice.struct.format) == (Format.INT4, Format.INT8)
    exact = linear(x, fours.floats())
    torch.testing.assert_close(kernels.multiply(once.struct, x), exact, rtol=0, atol=0.2)
    again = Packed(fours, None, Format.INT4, kernels)
    assert torch.equal(kernels.multiply(once.struct, x), kernels.multiply(again.struct, x))


@pytest.mark.parametrize(("rows", "depth"), [(270, 128), (700, 128), (1100, 64), (200, 8192), (70, 16384)])
@pytest.mark.parametrize("columns", [16, 50, 96])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.usefixtures("kernels")
def test_many_rows_are_multiplied_in_parts_of_any_number(form, rows, depth, columns, threads):
    kernels = Kernels(cache_folder(Settings()), threads)
    weight, x = _drawn(columns, depth, dtype=_DTYPES[form]), _drawn(rows, depth, seed=1, dtype=_DTYPES[form])
    packed = Packed(weight, None, form, kernels)
    found = kernels.multiply(packed.struct, x)
    expected = linear(x.float(), _rounded(weight, form).float())
    assert (found - expected).norm() < 0.03 * expected.norm()
    for first in (0, 31, rows - 33):
        few = kernels.multiply(packed.struct, x[first : first + 33].contiguous())
        assert torch.equal(few, found[first : first + 33])


@pytest.mark.parametrize("rows", [1, 8, 9, 20, 300])
@pytest.mark.parametrize("depth", [192, 512, 1024, 64 * 7])
@pytest.mark.parametrize("sign", [1, -1])  # blocks of GGUF files have scales below zero too
def test_four_bits_are_multiplied_as_the_bytes_that_they_are_opened_into(kernels, monkeypatch, rows, depth, sign):
    monkeypatch.setattr(packing, "prefers_opened", lambda: True)
    fours, x = round_to_fours(_drawn(50, depth)), _drawn(rows, depth, seed=1)
    fours = fours._replace(scales=sign * fours.scales)
    opened = open_fours(fours)
    assert opened is not None
    numbers = opened.numbers.view(50, -1, FOUR_GROUP).int() * opened.slopes[..., None] >> 4
    numbers += opened.starts[..., None]
    as_bytes = Rounded(numbers.view(50, depth).to(torch.int8), opened.scales)
    packed, expected = (Packed(each, None, Format.INT8, kernels) for each in (fours, as_bytes))
    assert (packed.struct.group, expected.struct.group) == (as_bytes.group,) * 2
    assert torch.equal(kernels.multiply(packed.struct, x), kernels.multiply(expected.struct, x))


@pytest.mark.parametrize("opened", [True, False])
def test_with_either_kind_of_four_bits_a_row_gets_the_same_bits_whatever_its_company(kernels, monkeypatch, opened):
    monkeypatch.setattr(packing, "prefers_opened", lambda: opened)
    x, packed = _drawn(60, 192), Packed(_drawn(130, 192, seed=1), None, Format.INT4, kernels)
    assert (packed.struct.group > FOUR_GROUP) == opened
    whole = kernels.multiply(packed.struct, x)
    for first, count in [(0, 1), (3, 2), (8, 8), (11, 13), (20, 40)]:
        assert torch.equal(
            kernels.multiply(packed.struct, x[first : first + count].clone()), whole[first : first + count]
        )


def test_weights_beyond_half_floats_are_refused_for_4_bits(kernels):
    with pytest.raises(NotPackable, match="too large for 4 bits"):
        Packed(torch.full((16, 32), 1e6), None, Format.INT4, kernels)


def test_the_largest_products_of_4_bits_overflow_nowhere(kernels):
    columns = torch.zeros(16, 64)
    columns[:, ::2] = 15.0
    columns[:, 1::2] = -15.0
    columns[:, 32:] = 15.0
    columns[0, 33] = 0.0
    x = torch.full((9, 64), 127.0)
    packed = Packed(columns, None, Format.INT4, kernels)
    torch.testing.assert_close(kernels.multiply(packed.struct, x), linear(x, columns), rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("side", [127.0, -127.0])
def test_the_largest_products_of_bytes_overflow_nowhere(kernels, monkeypatch, narrow, side):
    monkeypatch.setattr(packing, "prefers_narrow", lambda: narrow)
    columns, x = torch.ones(16, 256), torch.full((9, 256), side)
    columns[3] = -columns[3]
    columns[4, ::2] = -columns[4, ::2]
    packed = Packed(columns, None, Format.INT8, kernels)
    assert packed.struct.narrow == narrow
    torch.testing.assert_close(kernels.multiply(packed.struct, x), linear(x, columns), rtol=1e-5, atol=0.01)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_least_byte_that_a_file_may_bring_overflows_nowhere(kernels, side):
    least = Rounded(torch.full((16, 64), -128, dtype=torch.int8), torch.ones(16, 2))
    x = torch.full((9, 64), side)
    packed = Packed(least, None, Format.INT8, kernels)
    torch.testing.assert_close(kernels.multiply(packed.struct, x), linear(x, least.floats()), rtol=1e-5, atol=0.01)


def test_bytes_that_a_file_brings_stay_whole_where_narrow_ones_are_faster(kernels, monkeypatch):
    # Their rows have 16 bits there, and the error is that of these.
    off = 0.01 if packing.prefers_narrow() else 0.2
    monkeypatch.setattr(packing, "prefers_narrow", lambda: True)
    bytes_of_file, x = round_to_bytes(_drawn(50, 96)), _drawn(7, 96, seed=1)
    packed = Packed(bytes_of_file, None, Format.INT8, kernels)
    assert not packed.struct.narrow
    assert packed.tensors["panels"].max() == 127
    exact = linear(x, bytes_of_file.floats())
    torch.testing.assert_close(kernels.multiply(packed.struct, x), exact, rtol=0, atol=off)


def test_the_transposed_layers_of_gpt2_are_packed_alike(kernels):
    transposed, straight = Conv1D(48, 64), nn.Linear(64, 48)
    with torch.no_grad():
        transposed.weight.copy_(_drawn(64, 48))
        transposed.bias.copy_(_drawn(48, seed=1))
        straight.weight.copy_(transposed.weight.T)
        straight.bias.copy_(transposed.bias)
        x = _drawn(2, 3, 64, seed=2)
        for layer in (transposed, straight):
            packed = PackedLinear(Packed(*weight_of(layer), Format.FLOAT32, kernels), kernels, torch.float32)
            torch.testing.assert_close(packed(x), layer(x), rtol=1e-5, atol=1e-4)


def test_a_packed_layer_gives_the_dtype_it_was_told(kernels):
    layer = nn.Linear(64, 20, bias=False, dtype=torch.bfloat16)
    packed = Packed(*weight_of(layer), Format.BFLOAT16, kernels)
    x = _drawn(1, 7, 64, dtype=torch.bfloat16)
    assert PackedLinear(packed, kernels, torch.bfloat16)(x).dtype is torch.bfloat16
    logits = PackedLinear(packed, kernels, torch.float32)(x[:, ::2])
    assert (logits.dtype, logits.shape) == (torch.float32, (1, 4, 20))
    assert PackedLinear(packed, kernels, torch.float32)(x[:, :0]).shape == (1, 0, 20)


def test_small_weights_lie_side_by_side_and_multiply_as_they_do_apart(kernels, form):
    memory = SharedMemory(kernels)
    weights = [_drawn(*shape, seed=at, dtype=_DTYPES[form]) for at, shape in enumerate(_SHAPES)]
    shared = [Packed(weight, None, form, memory) for weight in weights]
    for weight, packed in zip(weights, shared, strict=True):
        x = _drawn(5, weight.shape[1], dtype=_DTYPES[form])
        alone = Packed(weight, None, form, kernels)
        assert torch.equal(kernels.multiply(packed.struct, x), kernels.multiply(alone.struct, x))
    starts = [packed.struct.panels for packed in shared]
    assert starts == sorted(starts)
    assert starts[-1] - starts[0] < 2**20
    assert not any(start % 64 for start in starts)


def test_weights_that_fill_their_memory_get_more(kernels):
    memory = SharedMemory(kernels)
    rooms = [memory.room(size, torch.uint8).fill_(at) for at, size in enumerate((2**25, 2**25, 2**27, 3, 1))]
    assert [len(room) for room in rooms] == [2**25, 2**25, 2**27, 3, 1]
    assert all(bool((room == at).all()) for at, room in enumerate(rooms))


def test_a_weight_in_another_format_is_packed_as_it_is_wanted(kernels):
    weight, x = _drawn(40, 64), _drawn(3, 64, seed=1, dtype=torch.bfloat16)
    wide, narrow = (Packed(each, None, Format.BFLOAT16, kernels) for each in (weight, weight.bfloat16()))
    assert torch.equal(kernels.multiply(wide.struct, x), kernels.multiply(narrow.struct, x))
