"""What all dialects hold a body to."""

import pytest

from gateway.api.exchange.asked import check_bad_words
from gateway.engine import InvalidRequest


@pytest.mark.parametrize("words", [None, (), ("no", " never", "a b")])
def test_bad_words_are_taken_as_they_are(words):
    assert check_bad_words(words) == words


def test_a_blank_word_is_refused_by_its_place():
    with pytest.raises(InvalidRequest, match="is blank") as refused:
        check_bad_words(("no", "\t "))
    assert refused.value.param == "bad_words[1]"


def test_no_more_characters_are_tokenized_than_a_short_text_has():
    assert check_bad_words(("a" * 512,) * 32)
    with pytest.raises(InvalidRequest, match="16385 characters; 16384 are the most"):
        check_bad_words((*("a" * 512,) * 32, "b"))
