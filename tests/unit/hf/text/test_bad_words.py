"""A word is spelled as it begins a text and as it follows a blank, as vLLM does it."""

import pytest
from transformers import AutoTokenizer

from gateway.engine import InvalidRequest
from gateway_hf.text.bad_words import spell_bad_words
from gateway_hf.text.codec import TextCodec
from tests.support.hf_engine import builtin_folder
from tests.support.tiny_models import CONTEXT, VOCABULARY, make_tiny


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(builtin_folder())


@pytest.fixture(scope="module")
def codec(tokenizer):
    return TextCodec(tokenizer, vocabulary=len(tokenizer), context_window=2048)


def _theirs(tokenizer, words):
    """What `SamplingParams.update_from_tokenizer` of vLLM finds."""
    found = []
    for word in words:
        for prefix in ("", " "):
            ids = tokenizer.encode(prefix + word.lstrip(), add_special_tokens=False)
            if not prefix or (ids[0] != found[-1][0] and len(ids) == len(found[-1])):
                found.append(ids)
    return found


WORDS = ("Paris", " Paris", "unbelievably", "Grüße", "a", "the end", "...", "42", "\nx", "<|im_end|>")


def test_words_are_spelled_as_vllm_spells_them(codec, tokenizer):
    assert [list(word) for word in spell_bad_words(codec, WORDS)] == _theirs(tokenizer, WORDS)


def test_a_blank_before_a_word_changes_nothing(codec):
    assert spell_bad_words(codec, ("Paris",)) == spell_bad_words(codec, ("  Paris",))
    assert len(spell_bad_words(codec, ("Paris",))) == 2


def test_a_word_that_the_model_cannot_write_is_refused_by_its_place(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny("llama", tmp_path))
    codec = TextCodec(tokenizer, vocabulary=VOCABULARY - 60, context_window=CONTEXT)
    with pytest.raises(InvalidRequest, match=r"bad_words\[1\]: ") as refused:
        spell_bad_words(codec, ("~", "the quick"))
    assert refused.value.param == "bad_words"
