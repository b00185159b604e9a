"""A thought in one word comes back as it was, or not at all."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.responses.sealed import seal, unseal
from gateway.engine import InvalidRequest


@given(st.text())
def test_a_thought_comes_back_as_it_was(thought):
    word = seal(thought)
    assert unseal(word, "p") == thought
    assert word.isascii()
    assert not thought or thought not in word[4:] or len(thought) < 4


@pytest.mark.parametrize("word", ["", "gAAAAABo", "gw2.abcd", "hm"])
def test_a_word_of_another_server_is_not_read(word):
    assert unseal(word, "p") is None


def changed(word):
    data = bytearray(base64.urlsafe_b64decode(word[4:]))
    for place in range(len(data)):
        data[place] ^= 1
        yield word[:4] + base64.urlsafe_b64encode(data).decode()
        data[place] ^= 1
    yield from (word[:end] for end in range(4, len(word)))
    yield from ("gw1.!", "gw1.\N{SNOWMAN}", word + "AAAA")


def test_a_word_that_was_changed_is_refused_by_its_path():
    for word in changed(seal("hmm, so")):
        with pytest.raises(InvalidRequest) as refused:
            unseal(word, "input[0].encrypted_content")
        assert refused.value.param == "input[0].encrypted_content"
