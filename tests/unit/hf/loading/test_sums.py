import hashlib
import re
import shutil

import pytest

from gateway.engine import LoadFailed
from gateway_hf.loading import sources
from gateway_hf.loading.sums import check_sums, listed_sum
from gateway_hf.settings import Settings
from tests.support.hf_engine import BUILTIN_DTYPE

WEIGHTS = ["model.safetensors"]


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny("llama"), tmp_path / "model")


def write_sums(folder, *files, mark=" "):
    lines = [f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()} {mark}{file}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def flip(file):
    content = bytearray(file.read_bytes())
    content[-2] ^= 0x40
    file.write_bytes(content)


def find(folder):
    return sources.find(Settings(model=str(folder)), BUILTIN_DTYPE)


def test_without_a_list_nothing_is_read(folder):
    flip(folder / "model.safetensors")
    find(folder)


@pytest.mark.parametrize("mark", [" ", "*", " ./"], ids=repr)
def test_a_flipped_byte_is_refused_where_the_sums_are_listed(folder, mark):
    write_sums(folder, "model.safetensors", mark=mark)
    find(folder)
    flip(folder / "model.safetensors")
    with pytest.raises(
        LoadFailed, match=r"'model\.safetensors' of the model 'model' is damaged: its SHA-256 .* SHA256SUMS"
    ):
        find(folder)


def test_any_file_that_is_listed_is_checked_and_one_that_is_not_there_is_none(folder):
    write_sums(folder, "model.safetensors", "tokenizer.json")
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  pytorch_model.bin\n\n")
    find(folder)
    flip(folder / "tokenizer.json")
    with pytest.raises(LoadFailed, match=r"'tokenizer\.json' of the model"):
        find(folder)


def test_a_list_without_the_weights_is_refused(folder):
    write_sums(folder, "tokenizer.json")
    with pytest.raises(LoadFailed, match=r"'model\.safetensors' of the model 'model' is not listed"):
        find(folder)


@pytest.mark.parametrize("content", [b"", b"\xff", b"abc  model.safetensors", b"0" * 64])
def test_a_list_that_is_none_is_refused(folder, content):
    (folder / "SHA256SUMS").write_bytes(content)
    with pytest.raises(LoadFailed, match="SHA256SUMS beside the model"):
        find(folder)


def test_a_file_in_the_hubs_cache_has_its_sum_as_its_name(folder, tmp_path):
    weights = folder / "model.safetensors"
    blob = tmp_path / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    check_sums(folder, WEIGHTS, "model")
    flip(blob)
    with pytest.raises(LoadFailed, match=r"damaged: its SHA-256 is not the one that the hub gave; remove it from"):
        check_sums(folder, WEIGHTS, "model")


def test_a_gguf_file_may_be_listed_too(tmp_path):
    file = tmp_path / "made.gguf"
    file.write_bytes(b"content")
    assert listed_sum(file) is None
    write_sums(tmp_path, "made.gguf")
    assert re.fullmatch(r"[0-9a-f]{64}", listed_sum(file))
    flip(file)
    with pytest.raises(LoadFailed, match=r"'made\.gguf' is damaged: its SHA-256 is not the one that it came with"):
        sources.find(Settings(model=str(file), cache_folder=str(tmp_path / "cache")), BUILTIN_DTYPE)
    assert not list((tmp_path / "cache").glob("made-*"))
