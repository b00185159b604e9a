"""Packed weights that are kept: mapped at the next start with the same bits, and given up where they are not right."""

import mmap
import threading

import pytest
import torch
from transformers import LlamaConfig, MixtralConfig

from gateway.engine import DiskCache
from gateway_hf.compute import fused
from gateway_hf.compute import packed as packing
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.panel_cache import PanelCache
from gateway_hf.compute.reference import ReferenceAnswers
from gateway_hf.compute.rounded import round_weights
from gateway_hf.compute.trial import TRIAL_BLOCKS
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import drawn_model, numbers, seated

_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "pad_token_id": 0}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_SHAPE |= {"bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "dense": LlamaConfig(**_SHAPE, attention_bias=True),
    "tied": LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "experts": MixtralConfig(**_SHAPE, num_local_experts=4),
}


@pytest.fixture
def cache(tmp_path):
    return PanelCache(tmp_path / "cache", "tiny", {"model": "a"}, 1 << 30, least=0)


@torch.inference_mode()
def logits(fitted):
    sequence = seated(numbers(20), [0, 1])
    said, _ = fitted.forward.logits([Chunk(sequence, 20)])
    fitted.forward.forget(sequence)
    return said.clone()


def keep(cache, fitted):
    """Keep what was packed, and wait until it is."""
    cache.keep_later(fitted.change, fitted.panels.made).join()


def forbid_packing(monkeypatch):
    def pack(*_):
        raise AssertionError("a weight is packed")

    monkeypatch.setattr(Packed, "__init__", pack)


@pytest.mark.parametrize("form", [Format.FLOAT32, Format.INT8])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_later_start_maps_what_an_earlier_one_packed_and_says_the_same(kernels, cache, monkeypatch, name, form):
    for module in (fused, packing):  # so that there are factors to keep on every processor
        monkeypatch.setattr(module, "prefers_narrow", lambda: False)
    means = Means(TRIAL_BLOCKS, kernels, form)
    first = fit(lambda: drawn_model(CONFIGS[name]), means)
    said = logits(first)
    keep(cache, first)
    forbid_packing(monkeypatch)
    kept = cache.find(kernels)
    assert kept.change == "fused_layers"
    assert any(packed.factors is not None for packed in kept.weights()) == (form is Format.INT8)
    second = fit(lambda: drawn_model(CONFIGS[name]), means._replace(kept=kept))
    assert second.panels is None
    assert torch.equal(logits(second), said)


def test_a_model_of_four_bits_is_not_rounded_again_where_its_answers_are_known(kernels, cache, tmp_path, monkeypatch):
    def rounded():
        model = drawn_model(CONFIGS["experts"])
        round_weights(model, 2)
        return model

    known = ReferenceAnswers(tmp_path / "cache", {"model": "a"})
    means = Means(TRIAL_BLOCKS, kernels, Format.INT8, known=known)
    first = fit(rounded, means)
    said = logits(first)
    keep(cache, first)
    forbid_packing(monkeypatch)
    bare = means._replace(kept=cache.find(kernels), bare=True)
    second = fit(lambda: drawn_model(CONFIGS["experts"]), bare)
    assert torch.equal(logits(second), said)


def test_a_bare_model_whose_answers_are_not_known_is_loaded_again_and_packed(kernels, cache):
    models, rounds = [], []

    def load():
        models.append(drawn_model(CONFIGS["dense"]))
        if len(models) > 1:
            rounds.append(round_weights(models[-1]))
        return models[-1]

    means = Means(TRIAL_BLOCKS, kernels, Format.INT8)
    first = fit(drawn_of("dense"), means)
    keep(cache, first)
    second = fit(load, means._replace(kept=cache.find(kernels), bare=True))
    assert (len(models), len(rounds)) == (2, 1)
    assert second.panels is not None
    assert cache.find(kernels) is None


def drawn_of(name):
    return lambda: drawn_model(CONFIGS[name])


@pytest.mark.parametrize("other", ["experts", "wrong"])
def test_what_is_not_of_this_model_is_packed_anew_and_removed(kernels, cache, other, caplog):
    means = Means(TRIAL_BLOCKS, kernels, Format.FLOAT32)
    if other == "wrong":  # the same shapes, and other numbers
        first = fit(drawn_of("dense"), means)
        for packed in first.panels.made:
            packed.tensors["panels"] = packed.tensors["panels"] * -1.5
    else:
        first = fit(drawn_of(other), means)
    keep(cache, first)
    second = fit(drawn_of("dense"), means._replace(kept=cache.find(kernels)))
    assert torch.equal(logits(second), logits(fit(drawn_of("dense"), means)))
    assert second.panels is not None
    assert "are not used, and made anew" in caplog.text
    assert cache.find(kernels) is None


def test_what_is_damaged_is_not_used(kernels, cache, tmp_path):
    keep(cache, fit(drawn_of("dense"), Means(TRIAL_BLOCKS, kernels, Format.FLOAT32)))
    (file,) = tmp_path.glob("cache/tiny-panels-*/panels.bin")
    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"another")
    assert cache.find(kernels) is None


def test_they_stay_while_a_weight_is_used(kernels, cache, tmp_path):
    keep(cache, fit(drawn_of("dense"), Means(TRIAL_BLOCKS, kernels, Format.FLOAT32)))
    used = next(cache.find(kernels).weights())
    folder = DiskCache(tmp_path / "cache")
    assert [entry.in_use for entry in folder.clear()] == [True]
    del used
    assert folder.clear() == []


@pytest.mark.parametrize("limits", [{"least": 1 << 30}, {"most": 1000}])
def test_few_and_too_many_are_not_written(kernels, tmp_path, limits):
    cache = PanelCache(tmp_path / "cache", "tiny", {"model": "a"}, **({"most": 1 << 30, "least": 0} | limits))
    made = [Packed(torch.ones(64, 64), None, Format.FLOAT32, kernels)]
    assert cache.keep_later("fused_layers", made) is None
    assert not (tmp_path / "cache").exists()


def test_room_is_made_for_them_within_the_limit(kernels, tmp_path):
    made = [Packed(torch.ones(64, 64), None, Format.FLOAT32, kernels)]
    size = 64 * 64 * 4
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    (folder / "old").write_bytes(bytes(2 * size))
    PanelCache(folder, "tiny", {"model": "a"}, 3 * size, least=0).keep_later("fused_layers", made).join()
    assert (folder / "old").exists()
    PanelCache(folder, "tiny", {"model": "b"}, 3 * size, least=0).keep_later("fused_layers", made).join()
    assert not (folder / "old").exists()
    assert len(list(folder.glob("tiny-panels-*"))) == 2


def test_a_folder_without_room_is_left_as_it_is(kernels, cache, monkeypatch, caplog):
    caplog.set_level("INFO", "gateway_hf")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})())
    made = [Packed(torch.ones(64, 64), None, Format.FLOAT32, kernels)]
    cache.keep_later("fused_layers", made).join()
    assert "packed again at the next start: they take 0 MiB, and 1 are free" in caplog.text
    assert cache.find(kernels) is None


def test_a_model_that_is_unloaded_meanwhile_is_not_held(kernels, cache, caplog, monkeypatch):
    caplog.set_level("INFO", "gateway_hf")
    begun, unloaded = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        unloaded.wait(10)
        return type("Usage", (), {"free": 1 << 40})()

    monkeypatch.setattr("shutil.disk_usage", wait)
    made = [Packed(torch.ones(64, 64), None, Format.FLOAT32, kernels)]
    thread = cache.keep_later("fused_layers", made)
    begun.wait(10)
    made.clear()
    unloaded.set()
    thread.join()
    assert "the model was unloaded meanwhile" in caplog.text
    assert cache.find(kernels) is None


@pytest.mark.parametrize("narrow", [False, True])
def test_a_file_is_written_in_whole_pieces(kernels, cache, tmp_path, monkeypatch, narrow):
    monkeypatch.setattr("gateway_hf.compute.packed.prefers_narrow", lambda: narrow)
    monkeypatch.setattr("gateway_hf.compute.panel_cache._PIECE", mmap.PAGESIZE)
    made = [Packed(torch.randn(70, 64), torch.randn(70), form, kernels) for form in (Format.FLOAT32, Format.INT8)]
    cache.keep_later("packed_weights", made).join()
    found = list(cache.find(kernels).weights())
    for old, new in zip(made, found, strict=True):
        assert {name: tensor.shape for name, tensor in new.tensors.items()}.keys() == old.tensors.keys()
        for name, tensor in old.tensors.items():
            assert torch.equal(new.tensors[name], tensor.flatten())
        x = torch.randn(3, 64)
        assert torch.equal(kernels.multiply(new.struct, x), kernels.multiply(old.struct, x))
