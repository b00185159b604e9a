import json
import pickle

import pytest

from gateway.engine import LoadFailed
from gateway_hf.loading.checks import check_folder, read_json
from tests.support.tiny_models import make_tiny


@pytest.fixture
def folder(tmp_path):
    return make_tiny("gpt2", tmp_path / "model")


def refusal(folder):
    with pytest.raises(LoadFailed) as caught:
        check_folder(folder, "m")
    assert "\n" not in caught.value.message
    assert str(folder) not in caught.value.message
    return caught.value.message


def change(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_a_whole_folder_passes(folder):
    check_folder(folder, "m")


def test_what_is_no_folder_is_refused(tmp_path):
    assert "no folder" in refusal(tmp_path / "nowhere")
    assert "config.json" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl"])
def test_pickled_weights_are_refused_and_never_opened(folder, tmp_path, suffix):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (folder / "model.safetensors").unlink()
    (folder / f"pytorch_model{suffix}").write_bytes(pickle.dumps(Bomb()))
    assert "pickles" in refusal(folder)
    assert not (tmp_path / "exploded").exists()


def test_pickles_beside_safetensors_do_no_harm(folder):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    check_folder(folder, "m")


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"])
def test_attention_code_is_not_the_models_to_choose(folder, key):
    change(folder / "config.json", **{key: "someone/kernel"})
    assert key in refusal(folder)


@pytest.mark.parametrize("kind", ["sdpa", "eager", "flash_attention_2", None])
def test_attention_that_is_part_of_transformers_is_no_reason_to_refuse(folder, kind):
    change(folder / "config.json", _attn_implementation=kind)
    check_folder(folder, "m")


def test_other_weights_than_those_that_were_checked_are_refused(folder):
    change(folder / "config.json", transformers_weights="other.safetensors")
    assert "transformers_weights" in refusal(folder)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"bits": 4}, "an unknown method"),
    ],
)
def test_quantized_weights_are_refused_by_their_method(folder, config, method):
    change(folder / "config.json", text_config={"quantization_config": config})
    assert f"quantized ({method})" in refusal(folder)


def test_an_empty_quantization_is_none(folder):
    change(folder / "config.json", quantization_config=None, compression_config={})
    check_folder(folder, "m")


def test_an_adapter_is_refused_with_weights_beside_it_and_without(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "beside the weights; remove the file to serve these alone" in refusal(folder)
    (folder / "config.json").unlink()
    assert "name its base as the model, and it in 'adapters'" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_byte_order_mark_is_named(folder, file):
    (folder / file).write_bytes(b"\xef\xbb\xbf" + (folder / file).read_bytes())
    assert f"'{file}' of the model 'm' begins with a byte order mark" in refusal(folder)


def test_json_in_another_encoding_is_refused(folder):
    (folder / "config.json").write_bytes((folder / "config.json").read_text().encode("utf-16"))
    assert "is not JSON" in refusal(folder)


def test_the_bare_flag_of_older_configs_passes(folder):
    change(folder / "config.json", _attn_implementation_autoset=True)
    check_folder(folder, "m")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 200_000, b""])
def test_a_config_that_is_not_an_object_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refusal(folder)


def test_weights_cut_short_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "damaged" in refusal(folder)


def test_missing_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder)


@pytest.mark.parametrize(
    ("index", "why"),
    [
        ({}, "names no weights"),
        ({"weight_map": {"a": 1}}, "names no weights"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "outside"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "outside"),
        ({"weight_map": {"a": "gone.safetensors"}}, "missing"),
        ({"weight_map": {"a": "model-00001-of-00001.safetensors"}}, "no 'metadata'"),
    ],
)
def test_an_index_that_leads_astray_is_refused(folder, index, why):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert why in refusal(folder)


def test_a_sharded_model_passes(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    check_folder(folder, "m")


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(LoadFailed, match="cannot be read"):
        read_json(tmp_path / "gone.json", "m")
