"""What names a model and how it is computed: alike wherever its files lie, and another one once they change."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from gateway_hf.loading.identity import build_of, fingerprint_of
from gateway_hf.loading.sources import Source
from tests.support.tiny_models import make_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny("llama", tmp_path_factory.mktemp("identity") / "tiny")


@pytest.fixture
def source(folder, tmp_path):
    return Source(shutil.copytree(folder, tmp_path / "copy"), "tiny")


def test_a_copy_elsewhere_is_the_same_model(folder, source):
    assert build_of(Source(folder, "other"), "float32") == build_of(source, "float32")
    assert set(build_of(source, "float32")) == {
        *("weights", "tokenizer", "dtype", "kernels"),
        *("llm-gateway-hf", "transformers", "torch"),
    }


def test_the_number_format_and_the_kernels_are_parts(source):
    plain = build_of(source, "float32")
    assert build_of(source, "int8 float32") == plain | {"dtype": "int8 float32"}
    assert plain["kernels"] == "torch"
    assert build_of(source, "float32", kernels=True)["kernels"] != "torch"


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.down_proj.weight", "lm_head.weight"])
def test_another_tensor_is_another_model(source, name):
    before = build_of(source, "float32")
    tensors = load_file(source.folder / "model.safetensors")
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, source.folder / "model.safetensors", metadata={"format": "pt"})
    assert build_of(source, "float32")["weights"] != before["weights"]
    assert build_of(source, "float32")["tokenizer"] == before["tokenizer"]


@pytest.mark.parametrize("file", ["config.json", "chat_template.jinja", "additional_chat_templates/tool_use.jinja"])
def test_all_texts_that_an_answer_depends_on_are_a_part(source, file):
    (source.folder / "additional_chat_templates").mkdir()
    found = [build_of(source, "float32")["tokenizer"]]
    for content in ("one", "another"):
        (source.folder / file).write_text(content)
        found.append(build_of(source, "float32")["tokenizer"])
    assert len(set(found)) == 3


def test_what_was_converted_is_known_by_its_original(source):
    converted = Source(source.folder, "tiny", content="ab" * 32)
    assert build_of(converted, "float32")["weights"] == "abababababab"


def test_weights_that_were_written_since_have_another_fingerprint(source):
    build = build_of(source, "float32")
    before = fingerprint_of(source, build)
    assert fingerprint_of(source, build) == before
    assert fingerprint_of(source, build | {"torch": "0"}) != before
    (source.folder / "model.safetensors").touch()
    assert fingerprint_of(source, build) != before
