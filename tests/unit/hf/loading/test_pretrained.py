import json
import shutil

import pytest
import torch
from transformers import AutoTokenizer

from gateway.engine import LoadFailed
from gateway_hf.loading import pretrained
from gateway_hf.loading.sources import Source
from tests.support.tiny_models import make_tiny
from tests.support.tiny_tokenizers import make_sentence_pieces, make_unigrams, make_word_pieces


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny("llama"), tmp_path / "model")


def change(file, **entries):
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | entries))


def source(folder):
    return Source(folder, "m")


def read_model(folder):
    return pretrained.read_model(source(folder), torch.float32, torch.device("cpu"))


def refusal(read, folder):
    with pytest.raises(LoadFailed) as caught:
        read(source(folder))
    assert "\n" not in caught.value.message
    assert str(folder) not in caught.value.message
    return caught.value.message


def model_refusal(folder):
    return refusal(lambda _: read_model(folder), folder)


def test_code_beside_a_type_that_transformers_knows_is_not_run(folder, tmp_path):
    ran = tmp_path / "ran"
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w')\n")
    change(folder / "config.json", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", "code.F"]})
    change(folder / "generation_config.json", auto_map={"AutoModel": "code.M"})
    pretrained.check_type(source(folder))
    tokenizer, model = pretrained.read_tokenizer(source(folder)), read_model(folder)
    assert type(model).__module__.startswith("transformers.")
    assert type(tokenizer).__module__.startswith("transformers.")
    assert not ran.exists()


def test_a_type_that_only_its_own_code_knows_is_refused(folder):
    change(folder / "config.json", model_type="new", auto_map={"AutoModelForCausalLM": "code.M"})
    assert "needs code of its own ('auto_map' in config.json), which is never run" in refusal(
        pretrained.check_type, folder
    )


@pytest.mark.parametrize("kind", ["eager", "flash_attention_2", "flex_attention"])
def test_the_attention_that_a_configuration_names_is_ignored(folder, kind):
    change(folder / "config.json", _attn_implementation=kind)
    assert read_model(folder).config._attn_implementation == "sdpa"


def test_an_unknown_way_to_scale_positions_is_named(folder, caplog):
    change(folder / "config.json", rope_parameters={"rope_type": "spiral", "rope_theta": 10_000.0})
    assert "scales its positions in an unknown way ('spiral')" in model_refusal(folder)
    assert "Traceback" in caplog.text


def test_the_cause_of_a_load_that_fails_is_in_the_log(folder, caplog):
    change(folder / "config.json", intermediate_size=100)
    assert "do not fit together; the log says why" in model_refusal(folder)
    assert "Traceback" in caplog.text


def test_a_tokenizer_whose_class_cannot_be_made_of_its_file_is_made_of_the_file(folder):
    change(folder / "tokenizer_config.json", tokenizer_class="T5Tokenizer")
    text = "Once upon a time, 42 times <|im_end|>"
    expected = AutoTokenizer.from_pretrained(make_tiny("llama", folder.parent / "other"))(text).input_ids
    assert pretrained.read_tokenizer(source(folder))(text).input_ids == expected


@pytest.mark.parametrize("name", ["ByT5Tokenizer", "CanineTokenizer"])
def test_a_tokenizer_that_is_written_in_python_is_refused_by_its_class(folder, name):
    (folder / "tokenizer.json").unlink()
    change(folder / "tokenizer_config.json", tokenizer_class=name)
    assert f"(of the class {name})" in refusal(pretrained.read_tokenizer, folder)


@pytest.mark.parametrize("make", [make_word_pieces, make_unigrams])
def test_a_tokenizer_is_tried_before_it_is_served(folder, caplog, make):
    tokenizer = make(None)
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    rules["model"]["vocab"] = (
        {piece: at for piece, at in vocabulary.items() if piece != "H"}
        if isinstance(vocabulary, dict)
        else [piece for piece in vocabulary if piece[0] != "H"]
    )
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    assert "fails on plain text" in refusal(pretrained.read_tokenizer, folder)
    assert "Traceback" in caplog.text


def test_a_tokenizer_without_tokens_for_plain_text_is_refused(folder):
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[\\s\\S]"}, "content": ""}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    assert "finds no tokens in plain text" in refusal(pretrained.read_tokenizer, folder)


@pytest.fixture
def pieces(folder):
    """A folder whose tokenizer is SentencePiece's file alone."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(make_sentence_pieces())
    return folder


def test_a_folder_with_a_sentencepiece_model_alone_is_read_as_sentencepiece_reads(pieces):
    change(pieces / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    tokenizer = pretrained.read_tokenizer(source(pieces))
    assert tokenizer.decode(tokenizer("naïve café 你好", add_special_tokens=False).input_ids) == "naïve café 你好"


def test_a_class_that_reads_a_sentencepiece_model_otherwise_is_refused(pieces):
    change(pieces / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    message = refusal(pretrained.read_tokenizer, pieces)
    assert "made of its tokenizer.model (of the class GPT2Tokenizer) the tokenizer reads" in message


def test_the_package_that_is_missing_is_named(pieces, monkeypatch):
    def fail(*_, **__):
        raise ImportError("SentencePieceExtractor requires the sentencepiece library but it was not found")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    assert "needs the package sentencepiece" in refusal(pretrained.read_tokenizer, pieces)
