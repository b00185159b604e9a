"""Prompts: distinct, of the right length, with the right beginning, the same for the same seed."""

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.bench.prompts import PromptSource


def common_words(first, second):
    pairs = zip(first.split(" "), second.split(" "), strict=True)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


@given(st.integers(0, 2**31), st.integers(1, 400), st.floats(0, 1), st.integers(0, 10**6))
def test_a_prompt_has_as_many_words_as_were_asked_for(seed, words, shared, number):
    assert len(PromptSource(seed, words, shared).text(number).split(" ")) == words


def test_prompts_share_nothing_that_a_prefix_cache_could_use():
    texts = [PromptSource(5, 100).text(number) for number in range(500)]
    assert len(set(texts)) == 500
    assert max(common_words(first, second) for first in texts[:40] for second in texts[40:]) < 5


def test_prompts_share_as_much_as_they_should():
    prompts = PromptSource(5, 100, 0.5)
    assert all(50 <= common_words(prompts.text(0), prompts.text(number)) < 55 for number in range(1, 100))


def test_a_share_of_all_makes_one_prompt():
    prompts = PromptSource(5, 10, 1.0)
    assert prompts.text(0) == prompts.text(1)


def test_another_seed_makes_another_shared_beginning():
    assert common_words(PromptSource(1, 100, 0.5).text(0), PromptSource(2, 100, 0.5).text(0)) < 5


def test_the_seed_makes_the_same_prompts_again():
    assert PromptSource(5, 20).text(7) == PromptSource(5, 20).text(7) != PromptSource(6, 20).text(7)
