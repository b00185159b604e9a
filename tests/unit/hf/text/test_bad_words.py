"""A word is spelled as it begins a text and as it follows a blank: as vLLM does it, and where that does too little."""

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


@pytest.mark.parametrize("word", WORDS)
def test_all_that_vllm_bans_is_banned_and_no_third_spelling(codec, tokenizer, word):
    ours = [list(spelled) for spelled in spell_bad_words(codec, (word,))]
    both = [tokenizer.encode(f"{blank}{word.lstrip()}", add_special_tokens=False) for blank in ("", " ")]
    assert ours == both[: len(ours)]
    assert all(spelled in ours for spelled in _theirs(tokenizer, [word]))


def test_a_blank_that_is_a_token_of_its_own_is_no_part_of_a_word(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny("llama", tmp_path))
    codec = TextCodec(tokenizer, vocabulary=VOCABULARY, context_window=CONTEXT)
    assert spell_bad_words(codec, ("~",)) == (tuple(tokenizer.encode("~", add_special_tokens=False)),)


def test_a_word_of_fewer_tokens_behind_a_blank_is_spelled_so_too(codec, tokenizer):
    ours = [list(word) for word in spell_bad_words(codec, ("Nova Haven",))]
    assert ours == [*_theirs(tokenizer, ["Nova Haven"]), tokenizer.encode(" Nova Haven", add_special_tokens=False)]
    assert len(ours[0]) > len(ours[1])


def test_a_blank_before_a_word_changes_nothing(codec):
    assert spell_bad_words(codec, ("Paris",)) == spell_bad_words(codec, ("  Paris",))
    assert len(spell_bad_words(codec, ("Paris",))) == 2


def test_a_word_that_the_model_cannot_write_is_refused_by_its_place(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny("llama", tmp_path))
    codec = TextCodec(tokenizer, vocabulary=VOCABULARY - 60, context_window=CONTEXT)
    with pytest.raises(InvalidRequest, match=r"bad_words\[1\]: ") as refused:
        spell_bad_words(codec, ("~", "the quick"))
    assert refused.value.param == "bad_words"
