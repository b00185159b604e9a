"""What a load takes, estimated from files: of a folder, a GGUF file, a model in the Hub's cache, and of none."""

import json
import subprocess
import sys

import pytest

from gateway_hf import plugin
from gateway_hf.memory import _PROCESS, estimate
from gateway_hf.settings import LARGEST_CACHE, Settings
from tests.support.tiny_encoders import make_cross_encoder, make_encoder
from tests.support.tiny_models import make_tiny

# The tiny Llama: two layers that keep two heads of sixteen numbers, keys and values.
TOKEN = 2 * 2 * 2 * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny("llama", tmp_path_factory.mktemp("tiny"))


def weights(folder):
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    return sum(torch.numel(tensor) for tensor in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize(
    ("asked", "size", "of_weights"),
    [({"dtype": "float32"}, 4, 4), ({"dtype": "bfloat16"}, 2, 2), ({"dtype": "float32", "quantize": "int8"}, 4, 1)],
)
def test_a_folder_takes_its_weights_and_its_cache_in_the_number_format_that_is_used(folder, asked, size, of_weights):
    found = estimate(Settings(model=str(folder), **asked))
    assert found == _PROCESS + weights(folder) * of_weights + 16_384 * TOKEN * size


def test_keys_and_values_in_8_bits_have_a_byte_each_and_a_scale_a_head(folder):
    own = Settings(model=str(folder), dtype="float32", kv_dtype="int8")
    config = json.loads((folder / "config.json").read_text())
    heads = 2 * config["num_hidden_layers"] * config["num_key_value_heads"]
    assert estimate(own) == _PROCESS + weights(folder) * 4 + 16_384 * (TOKEN + 4 * heads)


def test_a_draft_model_takes_its_weights_and_its_cache_besides(folder):
    own = Settings(model=str(folder), dtype="float32", draft=str(folder))
    assert estimate(own) == _PROCESS + 2 * (weights(folder) * 4 + 16_384 * TOKEN * 4)
    assert estimate(Settings(model=str(folder), draft="nowhere/none")) is None


def test_the_cache_is_as_large_as_the_settings_say_and_bounded_where_they_do_not(folder, tmp_path):
    own = Settings(model=str(folder), dtype="float32", cache_tokens=100)
    assert estimate(own) == _PROCESS + weights(folder) * 4 + 100 * TOKEN * 4
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 1 << 40}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert estimate(Settings(model=str(tmp_path), dtype="float32")) == _PROCESS + weights(folder) * 4 + LARGEST_CACHE


def test_a_model_of_vectors_has_no_cache(folder):
    own = Settings(model=str(folder), dtype="float32", task="embed")
    assert estimate(own) == _PROCESS + weights(folder) * 4


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert"])
def test_a_folder_of_an_encoder_takes_its_weights_and_no_cache(kind, tmp_path):
    for task, made in (
        ("embed", make_encoder(kind, tmp_path / "vectors")),
        ("score", make_cross_encoder(kind, tmp_path / "pairs")),
    ):
        for dtype, size in (("float32", 4), ("bfloat16", 2)):
            found = estimate(Settings(model=str(made), dtype=dtype))
            assert found == estimate(Settings(model=str(made), dtype=dtype, task=task))
            assert found == _PROCESS + weights(made) * size


def test_a_model_in_the_cache_of_the_hub_is_looked_at_there(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    own = Settings(model="someone/tiny", dtype="float32")
    assert estimate(own) is None
    home = tmp_path / "models--someone--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc\n")
    (home / "snapshots").mkdir()
    (home / "snapshots" / "abc").symlink_to(folder)
    assert estimate(own) == estimate(Settings(model=str(folder), dtype="float32"))


@pytest.mark.parametrize("model", ["builtin", "builtin-embedding"])
def test_the_built_in_models_are_estimated_too(model):
    found = estimate(Settings(model=model, dtype="float32"))
    assert found is not None
    assert found - _PROCESS > (400 << 20 if model == "builtin" else 80 << 20)


@pytest.mark.parametrize("broken", ["nowhere", "empty", "config", "gpu"])
def test_what_cannot_be_read_is_not_known(folder, tmp_path, broken):
    if broken == "gpu":
        assert estimate(Settings(model=str(folder), device="cuda")) is None
        return
    if broken == "config":
        (tmp_path / "config.json").write_text("{")
    assert estimate(Settings(model=str(tmp_path / "nothing") if broken == "nowhere" else str(tmp_path))) is None


def test_torch_is_not_needed_for_it(folder):
    asked = f"plugin.estimate(plugin.settings(model={str(folder)!r}))"
    heavy = "assert not {'torch', 'transformers'} & {*sys.modules}"
    code = f"import sys; from gateway_hf import plugin; assert {asked}; {heavy}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert plugin.estimate(Settings(model=str(folder))) is not None
