"""Tokens stand for the bytes that llama.cpp writes for them."""

import pytest

from gateway.engine import InvalidRequest
from gateway_llamacpp.gguf_header import GgufHeader
from gateway_llamacpp.vocabulary import GgufVocabulary
from tests.support.gguf_file import TOKENS, gguf_bytes


def vocabulary(tmp_path, **file):
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf_bytes(**file))
    return GgufVocabulary(GgufHeader(path))


def test_letters_of_gpt2_are_bytes(tmp_path):
    known = vocabulary(tmp_path)
    assert known.is_known
    assert known.size == len(TOKENS)
    assert [known.data(token) for token in (2, 3, 4, 5, 7)] == [b"hello", b" world", b"\xf0\x9f\x99", b"\x82", b" "]


def test_a_character_of_two_tokens_is_in_the_second_piece(tmp_path):
    assert [*vocabulary(tmp_path).pieces((2, 4, 5, 1))] == ["hello", "", "🙂", "</s>"]


def test_a_token_that_is_part_of_a_character_has_its_bytes(tmp_path):
    known = vocabulary(tmp_path)
    assert known.scored(4, -1.0).encoded == b"\xf0\x9f\x99"
    assert not known.is_whole(4)
    assert known.is_whole(2)
    assert known.scored(2, -1.0).raw is None


def test_blanks_and_bytes_of_sentencepiece_are_read(tmp_path):
    blank = "\N{LOWER ONE EIGHTH BLOCK}"
    known = vocabulary(tmp_path, kind="llama", tokens=(f"{blank}a", f"{blank}b", "<0x0A>"), types=(1, 1, 6), leads=True)
    assert [*known.pieces((0, 1, 2))] == ["a", " b", "\n"]
    assert known.spellings((0,))[0].text == f"{blank}a"


def test_special_tokens_are_known_by_name(tmp_path):
    known = vocabulary(tmp_path)
    assert set(known.specials) == {b"<s>", b"</s>", b"<|end|>"}
    assert known.is_control(1)
    assert not known.is_control(6)


def test_a_tokenizer_of_another_kind_is_not_guessed_at(tmp_path):
    assert not vocabulary(tmp_path, kind="rwkv").is_known


@pytest.mark.parametrize("token", [-1, len(TOKENS)])
def test_an_id_that_is_no_token_is_refused_by_name(tmp_path, token):
    with pytest.raises(InvalidRequest) as refusal:
        vocabulary(tmp_path).check((0, token), "logit_bias")
    assert refusal.value.param == "logit_bias"
