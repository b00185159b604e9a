"""The metadata of a GGUF file is read, whatever the file is."""

import struct

import pytest

from gateway.engine import LoadFailed
from gateway_llamacpp.gguf_header import GgufHeader
from tests.support.gguf_file import gguf_bytes


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf_bytes())
    return path


def test_keys_of_every_kind_are_read(file):
    header = GgufHeader(file)
    assert header.text("general.architecture") == "llama"
    assert header.own_number("context_length") == 64
    assert header.number("general.architecture") is None
    assert header.values["tokenizer.ggml.tokens"][0] == b"<s>"
    assert header.values["tokenizer.ggml.add_space_prefix"] is False


def test_a_change_of_the_metadata_changes_its_digest(file, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes().replace(b"<s>", b"<t>"))
    assert GgufHeader(file).digest != GgufHeader(other).digest


def test_every_cut_of_a_file_is_told_in_a_line(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(LoadFailed, match=r"small\.gguf"):
            GgufHeader(file)


@pytest.mark.parametrize("at", [0, 4, 16, 24, 32])
def test_numbers_that_lie_are_told_in_a_line(file, at):
    lying = bytearray(file.read_bytes())
    lying[at : at + 8] = struct.pack("<Q", (1 << 64) - 1)
    file.write_bytes(lying)
    with pytest.raises(LoadFailed):
        GgufHeader(file)
