"""The blocks of a GGUF file are computed with as they are."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from gateway.engine import LoadFailed
from gateway_hf.compute import native
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.rounded import Rounded, weight_of
from gateway_hf.loading import blocks, convert
from gateway_hf.loading.blocks import attach_blocks, write_blocks
from gateway_hf.loading.weights import load
from gateway_hf.settings import Settings, cache_folder
from tests.support.tiny_gguf import make_tiny_gguf

KINDS = (Kind.Q8_0, Kind.Q4_0, Kind.Q4_1)


def converted(file, cache, dtype=torch.float32):
    wanted = convert.Conversion(dtype, blocks=True)
    return convert.converted(file, wanted, convert.ConversionCache(cache, 1 << 40), convert.leave).folder


@pytest.fixture(scope="module")
def file_of(tiny, tmp_path_factory):
    """Make a tiny file with blocks of a kind."""
    return lambda kind: make_tiny_gguf(tiny("llama"), tmp_path_factory.mktemp("gguf") / "tiny.gguf", kind=kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_layer_has_its_blocks_in_the_order_of_its_rows(file_of, tmp_path, kind, dtype):
    folder = converted(file_of(kind), tmp_path, dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    attach_blocks(model, folder, "tiny")
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 2 * 7 + 1
    for linear in linears:
        weight, _ = weight_of(linear)
        assert isinstance(weight, Rounded)
        assert (weight.group, weight.offsets is None) == (32, kind is Kind.Q8_0)
        assert torch.equal(weight.floats().to(dtype), linear.weight)


@pytest.fixture
def built(kernels, monkeypatch):
    """Have each cache folder use the kernels that are built already: to compile them takes long."""
    library = native.library(cache_folder(Settings()))
    monkeypatch.setattr(native, "library", lambda _: library)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_loaded_as_they_are(file_of, tmp_path, built, kind):
    loaded = load(Settings(model=str(file_of(kind)), dtype="float32", quantize="gguf", cache_folder=str(tmp_path)))
    wanted = Format.INT8 if kind is Kind.Q8_0 else Format.INT4
    assert {layer.struct.qkv.format for layer in loaded.forward._model.model.layers} == {wanted}
    assert loaded.dtype == "gguf float32"
    assert loaded.note == "quantized weights (GGUF), computed with as they are"


def test_a_file_without_such_blocks_is_refused(file_of, tmp_path, built):
    settings = Settings(model=str(file_of(None)), dtype="float32", quantize="gguf", cache_folder=str(tmp_path))
    with pytest.raises(LoadFailed, match=r"no linear layer in one of Q8_0, Q4_0, Q4_1, Q4_K; use int8 or int4"):
        load(settings)


def test_a_folder_is_refused(tiny, tmp_path, built):
    settings = Settings(model=str(tiny("llama")), dtype="float32", quantize="gguf", cache_folder=str(tmp_path))
    with pytest.raises(LoadFailed, match="quantize = gguf is for GGUF files; use int8 or int4"):
        load(settings)


class OneTensor:
    """A file with one tensor."""

    def __init__(self, numbers, kind):
        self.tensor = type("Tensor", (), {"data": numbers, "tensor_type": kind})

    def tensors(self):
        return [self.tensor]


def drawn_q4_k(rows, across):
    """Draw blocks of Q4_K, which gguf reads and cannot make."""
    draw = np.random.default_rng(0)
    drawn = draw.integers(0, 256, (rows * across, 144), dtype=np.uint8)
    drawn[:, :4] = draw.uniform(1e-3, 1e-2, (rows * across, 2)).astype(np.float16).view(np.uint8)
    return drawn.reshape(rows, across * 144)


def test_large_blocks_are_read_within_a_half_float_and_rows_in_any_order(tmp_path):
    data = drawn_q4_k(24, 2)
    model = nn.Sequential(nn.Linear(512, 24, bias=False))
    model.dtype = torch.float32
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    model[0].weight.data = torch.from_numpy(gguf.dequantize(data, Kind.Q4_K))[order]
    write_blocks(OneTensor(data, Kind.Q4_K), model, tmp_path)
    attach_blocks(model, tmp_path, "one")
    weight, _ = weight_of(model[0])
    assert weight.scales.shape == (24, 512 // 32)
    torch.testing.assert_close(weight.floats(), model[0].weight.data, rtol=1e-3, atol=2e-3)


def test_a_layer_that_is_another_is_left_alone(tmp_path):
    data = drawn_q4_k(24, 2)
    model = nn.Sequential(nn.Linear(512, 24, bias=False))
    model.dtype = torch.float32
    model[0].weight.data = torch.from_numpy(gguf.dequantize(data, Kind.Q4_K))
    model[0].weight.data[3, 5] += 0.01
    write_blocks(OneTensor(data, Kind.Q4_K), model, tmp_path)
    assert load_file(tmp_path / blocks.FILE) == {}
