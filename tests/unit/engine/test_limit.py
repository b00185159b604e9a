"""Prompt and answer share the context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import ContextTooLong, Sampling, answer_limit


@pytest.mark.parametrize(
    ("sampling", "limit"),
    [
        (Sampling(), 90),
        (Sampling(max_tokens=7), 7),
        (Sampling(max_tokens=90), 90),
        (Sampling(max_tokens=0), 0),
        (Sampling(max_length=15), 5),
        (Sampling(max_length=100), 90),
    ],
)
def test_the_answer_gets_what_was_asked_or_all_the_room(sampling, limit):
    assert answer_limit(sampling, 10, 100) == limit


@pytest.mark.parametrize(
    ("sampling", "prompt_tokens", "numbers"),
    [
        (Sampling(max_tokens=91), 10, ["10 tokens", "91", "1 too many", "100"]),
        (Sampling(max_length=101), 10, ["10 tokens", "91", "1 too many", "100"]),
        (Sampling(max_length=10), 10, ["10 tokens", "length of 10"]),
        (Sampling(max_length=3), 10, ["10 tokens", "length of 3"]),
        (Sampling(), 100, ["100 tokens", "1 too many", "context of 100"]),
        (Sampling(max_tokens=1), 104, ["104 tokens", "5 too many", "context of 100"]),
    ],
)
def test_what_cannot_fit_is_refused_with_numbers(sampling, prompt_tokens, numbers):
    with pytest.raises(ContextTooLong) as refused:
        answer_limit(sampling, prompt_tokens, 100)
    assert [number for number in numbers if number not in refused.value.message] == []


@given(st.integers(0, 60), st.integers(1, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
def test_prompt_and_answer_never_pass_the_context(prompt_tokens, window, most, length):
    sampling = Sampling(max_tokens=most, max_length=length if most is None else None)
    try:
        limit = answer_limit(sampling, prompt_tokens, window)
    except ContextTooLong:
        return
    assert 0 <= limit <= window - prompt_tokens
