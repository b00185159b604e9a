"""The vectors of the golden prompts: stored at the first load, compared at each later one."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from gateway.engine import LoadFailed
from gateway_hf import build
from gateway_hf.embedding.encoder import Encoder
from gateway_hf.golden import check
from gateway_hf.settings import Settings
from tests.support.tiny_encoders import make_encoder


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "cache_folder", lambda _: tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    return make_encoder("bert", tmp_path / "tiny")


async def measure(folder, **more):
    asked = Settings(**{"model": str(folder), "dtype": "float32", "threads": 1, "kernels": "off"} | more)
    async with build(asked) as engine:
        return (await engine.status()).drift


def change(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "layer.0.intermediate.dense.weight" in name)
    tensors[name].view(-1)[300:700] = 3.0
    save_file(tensors, file, metadata={"format": "pt"})


async def test_the_first_load_stores_what_later_ones_are_compared_with(folder, tmp_path):
    assert await measure(folder) == 0
    assert await measure(folder) == 0
    assert 0 < await measure(folder, dtype="bfloat16") < 0.02
    assert len([*(tmp_path / "cache").glob("golden-*")]) == 1


async def test_the_kernels_are_compared_with_torch(folder, kernels):
    await measure(folder)
    assert 0 <= await measure(folder, kernels="auto") < 1e-6


async def test_weights_that_changed_unseen_end_the_load(folder):
    await measure(folder)
    change(folder)
    with pytest.raises(LoadFailed, match=r"of cosine distance.*changed since: nothing, so files may be damaged"):
        await measure(folder)
    assert await measure(folder, max_drift=0.0) is None
    assert await measure(folder, max_drift=2.0) > 1e-3


async def test_another_pooling_has_vectors_of_its_own(tmp_path, folder):
    await measure(folder)
    other = make_encoder("bert", tmp_path / "other" / "tiny", "cls_token")
    assert await measure(other) == 0
    assert len([*(tmp_path / "cache").glob("golden-*")]) == 2


async def test_vectors_that_are_no_numbers_end_the_load(folder, monkeypatch):
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda *given: encode(*given) * torch.nan)
    with pytest.raises(LoadFailed, match="computes no numbers"):
        await measure(folder)
