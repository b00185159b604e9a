"""Golden prompts: stored at the first load, compared at each later one, shipped for the built-in model."""

import json
import logging
import math

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from gateway.engine import LoadFailed
from gateway_hf.compute import fitting
from gateway_hf.compute.attention import UnsupportedAttention
from gateway_hf.golden import check
from gateway_hf.golden.check import check_golden
from gateway_hf.golden.prompts import Golden, drift_of, read_prompts, score_prompts
from gateway_hf.loading import weights
from gateway_hf.settings import Settings
from tests.support.tiny_models import make_tiny


@pytest.fixture
def folder(tmp_path):
    return make_tiny("llama", tmp_path / "tiny-llama")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    """Store what models say apart; kernels stay where they are built."""
    monkeypatch.setattr(check, "cache_folder", lambda _: tmp_path / "cache")


@pytest.fixture
def measure(folder):
    """Load the model of the folder, without kernels but on demand, and return its drift."""

    def load(**settings):
        asked = Settings(**{"model": str(folder), "dtype": "float32", "kernels": "off"} | settings)
        return check_golden(asked, weights.load(asked))

    return load


def stored(tmp_path):
    return sorted((tmp_path / "cache").glob("golden-*"))


def test_the_first_load_stores_what_later_ones_are_compared_with(measure, tmp_path):
    assert measure() == 0
    (only,) = stored(tmp_path)
    golden = msgspec.json.decode((only / "golden.json").read_bytes(), type=Golden)
    assert [len(ids) - 1 for ids in golden.prompts] == [len(each) for each in golden.logprobs]
    assert golden.build["dtype"] == "float32"
    assert measure() == 0


def test_another_number_format_is_compared_with_the_first(measure, tmp_path):
    measure()
    assert 0 < measure(dtype="bfloat16") < 0.3
    assert len(stored(tmp_path)) == 1


def test_the_kernels_are_compared_with_torch(measure, kernels):
    measure()
    assert 0 <= measure(kernels="auto") < 1e-3


def change(folder, name):
    """Change weights where their digest takes no sample, as a bad disk does."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensor = tensors[name].clone()
    tensor.view(-1)[300:700] = 3.0
    tensors[name] = tensor
    save_file(tensors, file, metadata={"format": "pt"})


def test_weights_that_changed_unseen_end_the_load_in_one_line_that_says_what_to_do(measure, folder, tmp_path):
    measure()
    change(folder, "model.layers.0.mlp.up_proj.weight")
    with pytest.raises(LoadFailed) as caught:
        measure()
    (only,) = stored(tmp_path)
    said = caught.value.message
    assert "\n" not in said
    assert str(tmp_path) not in said
    assert said.startswith("the model 'tiny-llama' says something else than its golden prompts in the cache folder")
    assert f"remove {only.name} there" in said
    assert "changed since: nothing, so files may be damaged" in said
    assert measure(max_drift=100.0) > 0.02
    assert measure(max_drift=0.0) is None


def test_a_changed_configuration_is_compared_too(measure, folder):
    measure()
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["rms_norm_eps"] = 0.5
    file.write_text(json.dumps(config))
    with pytest.raises(LoadFailed, match="changed since: tokenizer"):
        measure()


def test_what_is_damaged_is_made_anew(measure, tmp_path, caplog):
    measure()
    (only,) = stored(tmp_path)
    (only / "golden.json").write_bytes(b"{}")
    assert measure() == 0
    assert "golden.json is not as it was written" in caplog.text


def test_where_nothing_can_be_stored_nothing_is_compared(measure, tmp_path, caplog):
    (tmp_path / "cache").write_text("")
    assert measure() is None
    assert "not compared with what it said before: the cache folder" in caplog.text


def test_a_context_without_room_for_a_prompt_is_not_compared(measure):
    assert measure(cache_tokens=4) is None


def test_a_model_of_one_answer_at_a_time_is_compared(folder, monkeypatch):
    def refuse(*_):
        raise UnsupportedAttention("none but its own")

    monkeypatch.setattr(fitting, "_adopt", refuse)
    asked = Settings(model=str(folder), dtype="float32", kernels="off")
    loaded = weights.load(asked)
    assert loaded.guessing.most == 0
    assert check_golden(asked, loaded) == 0
    assert check_golden(asked, loaded) == 0


def test_no_numbers_are_no_agreement(measure, monkeypatch):
    def score(_, prompts, **__):
        return tuple((math.nan,) * (len(ids) - 1) for ids in prompts)

    measure()
    monkeypatch.setattr(check, "score_prompts", score)
    with pytest.raises(LoadFailed):
        measure()


def test_logits_that_are_no_numbers_end_the_load(measure, folder, monkeypatch):
    asked = Settings(model=str(folder), dtype="float32", kernels="off")
    loaded = weights.load(asked)
    logits = loaded.forward.logits
    monkeypatch.setattr(loaded.forward, "logits", lambda chunks: (logits(chunks)[0] * math.nan, logits(chunks)[1]))
    with pytest.raises(LoadFailed, match="computes no numbers for its golden prompts"):
        check_golden(asked, loaded)


def test_prompts_are_scored_as_the_model_itself_would(folder):
    loaded = weights.load(Settings(model=str(folder), dtype="float32", kernels="off"))
    prompts = read_prompts(loaded.text, loaded.context_window)
    assert [len(ids) for ids in prompts] == [32, 32]
    whole = score_prompts(loaded.forward, prompts, batched=False)
    assert drift_of(Golden({}, prompts, whole), score_prompts(loaded.forward, prompts, batched=True)) < 1e-5


def test_the_builtin_model_is_near_what_comes_with_the_package(caplog):
    asked = Settings()
    with caplog.at_level(logging.INFO, "gateway_hf"), torch.inference_mode():
        drift = check_golden(asked, weights.load(asked))
    assert drift is not None
    assert 0 < drift < 0.1
    assert "the drift of the model is" in caplog.text
