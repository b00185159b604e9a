import contextlib
import json
import struct

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from gateway_hf.loading.formats import MalformedFile, check_gguf, check_safetensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def tensors(folder):
    file = folder / "sound.safetensors"
    save_file({"a": torch.ones(3, 4), "b": torch.zeros(5, dtype=torch.bfloat16)}, file, metadata={"format": "pt"})
    return file.read_bytes()


@pytest.fixture(scope="module")
def quantized(folder):
    file = folder / "sound.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "é"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float32("eps", 1e-5)
    writer.add_tensor("plain", np.ones((4, 8), dtype=np.float32))
    blocks = gguf.quantize(np.ones((2, 32), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file.read_bytes()


def written(folder, content):
    file = folder / "case"
    file.write_bytes(content)
    return file


def with_header(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_what_the_libraries_write_is_sound(folder, tensors, quantized):
    check_safetensors(written(folder, tensors))
    check_gguf(written(folder, quantized))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        (1 << 63).to_bytes(8, "little") + b"{}",
        with_header(b"[" * 100_000),
        with_header(b"nonsense"),
        with_header([]),
        with_header({"a": 1}),
        with_header({"a": entry()}),
        with_header({"a": entry()}, b"\0" * 5),
        with_header({"a": entry(offsets=(4, 8))}, b"\0" * 8),
        with_header({"a": entry(), "b": entry()}, b"\0" * 4),
        with_header({"a": entry(offsets=(4, 0))}, b"\0" * 4),
        with_header({"a": entry(shape=(2,))}, b"\0" * 4),
        with_header({"a": entry(shape=(-1,))}, b"\0" * 4),
        with_header({"a": entry(shape=(True,))}, b"\0" * 4),
        with_header({"a": entry(dtype="PICKLE")}, b"\0" * 4),
        with_header({"a": entry(shape=(1 << 40, 1 << 40))}, b"\0" * 4),
    ],
)
def test_a_safetensors_header_that_lies_is_found(folder, content):
    with pytest.raises(MalformedFile):
        check_safetensors(written(folder, content))


@pytest.mark.parametrize("cut", [0, 3, 23, 24, 60, 200, -100])
def test_a_gguf_file_cut_short_is_found(folder, quantized, cut):
    with pytest.raises(MalformedFile):
        check_gguf(written(folder, quantized[:cut]))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"GGML"),
        (4, struct.pack("<I", 99)),
        (8, struct.pack("<Q", 1 << 60)),
        (8, struct.pack("<Q", 0)),
        (16, struct.pack("<Q", 1 << 60)),
        (24, struct.pack("<Q", 1 << 62)),
    ],
)
def test_a_gguf_header_that_lies_is_found(folder, quantized, at, value):
    with pytest.raises(MalformedFile):
        check_gguf(written(folder, quantized[:at] + value + quantized[at + len(value) :]))


@given(st.data())
def test_a_safetensors_file_that_passes_is_one_that_the_library_reads(folder, tensors, data):
    at = data.draw(st.integers(0, len(tensors) - 1))
    mutated = bytearray(tensors)
    mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    file = written(folder, bytes(mutated))
    try:
        check_safetensors(file)
    except MalformedFile:
        return
    load_file(file)


@given(st.data())
def test_a_changed_gguf_header_is_sound_or_malformed_and_nothing_else(folder, quantized, data):
    at = data.draw(st.integers(0, 400))
    mutated = bytearray(quantized)
    mutated[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    with contextlib.suppress(MalformedFile):
        check_gguf(written(folder, bytes(mutated)))
