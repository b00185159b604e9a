"""Which tokenizers answers can be constrained with."""

import pytest

from gateway_hf.constrain.vocabulary import UnconstrainableError, read_vocabulary
from gateway_hf.text.codec import backend
from tests.support.tiny_tokenizers import make_word_pieces


@pytest.mark.parametrize("name", ["llama", "builtin"])
def test_tokens_spell_their_texts(vocabulary_of, tokenizer_of, name):
    vocabulary, tokenizer = vocabulary_of(name).tokens, tokenizer_of(name)
    for text in ("{", ' "a": 1', "né漢🙂", "\n"):
        assert vocabulary.decode_str(tokenizer.encode(text, add_special_tokens=False)) == text
    assert vocabulary.vocab_size == len(tokenizer)


def test_a_model_may_have_more_ids_than_tokens(tokenizer_of):
    assert read_vocabulary(backend(tokenizer_of("llama")), 1_000, {1}).tokens.vocab_size == 1_000


def test_a_model_without_an_end_cannot_be_constrained(tokenizer_of):
    with pytest.raises(UnconstrainableError, match="no token that ends"):
        read_vocabulary(backend(tokenizer_of("llama")), 1_000, ())


def test_another_kind_of_tokenizer_is_told(tokenizer_of):
    words = make_word_pieces("[UNK]")
    with pytest.raises(UnconstrainableError, match=r"kind|spell"):
        read_vocabulary(backend(words), len(words), {1})
