"""Prompt and answer share the context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.engine import ContextTooLong, InvalidRequest, ModelCard, Sampling, answer_limit


def card(window=100, **defaults):
    return ModelCard(
        name="m",
        context_window=window,
        capabilities=frozenset(),
        defaults=Sampling(**defaults) if defaults else Sampling(),
    )


@pytest.mark.parametrize(
    ("sampling", "limit"),
    [
        (Sampling(), 90),
        (Sampling(max_tokens=7), 7),
        (Sampling(max_tokens=90), 90),
        (Sampling(max_length=15), 5),
        (Sampling(max_length=100), 90),
    ],
)
def test_the_answer_gets_what_was_asked_or_all_the_room(sampling, limit):
    assert answer_limit(sampling, 10, card()) == limit


@pytest.mark.parametrize(
    ("defaults", "limit"),
    [({"max_tokens": 7}, 7), ({"max_length": 17}, 7), ({"max_length": 5}, 90), ({"max_tokens": 999}, 90)],
)
def test_a_default_is_never_refused_and_never_beats_what_was_asked(defaults, limit):
    assert answer_limit(Sampling(), 10, card(**defaults)) == limit
    assert answer_limit(Sampling(max_tokens=20), 10, card(**defaults)) == 20


@pytest.mark.parametrize(
    ("sampling", "prompt_tokens", "param", "message"),
    [
        (Sampling(max_tokens=91), 10, "max_tokens", "has 10 tokens and 91 are to follow; 1 too many .* of 100"),
        (Sampling(max_length=101), 10, "max_length", "has 10 tokens and 91 are to follow; 1 too many .* of 100"),
        (Sampling(), 100, "prompt", "has 100 tokens; that leaves no room to answer in the context of 100"),
        (Sampling(max_tokens=1), 104, "prompt", "has 104 tokens; 4 too many for the context of 100"),
        (Sampling(max_tokens=100), 1, "max_tokens", "has 1 token and 100 are to follow; 1 too many .* of 100"),
    ],
)
def test_what_cannot_fit_is_refused_with_numbers(sampling, prompt_tokens, param, message):
    with pytest.raises(ContextTooLong, match=message) as refused:
        answer_limit(sampling, prompt_tokens, card())
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(max_tokens=0), "max_tokens"),
        (Sampling(max_length=10), "max_length"),
        (Sampling(max_length=3), "max_length"),
    ],
)
def test_an_answer_of_no_token_is_refused_by_name(sampling, param):
    with pytest.raises(InvalidRequest, match=f"{param} is .* has 10 tokens; none is left for the answer") as refused:
        answer_limit(sampling, 10, card())
    assert not isinstance(refused.value, ContextTooLong)
    assert refused.value.param == param


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=5), Sampling(max_length=15)])
def test_a_least_beyond_the_limit_is_refused_by_name(sampling):
    assert answer_limit(structs.replace(sampling, min_tokens=5), 10, card()) == 5
    with pytest.raises(InvalidRequest, match="min_tokens is 6, but the answer can have 5 at most") as refused:
        answer_limit(structs.replace(sampling, min_tokens=6), 10, card())
    assert refused.value.param == "min_tokens"


def test_a_default_gives_way_to_a_least_that_was_asked_for_and_the_context_does_not():
    assert answer_limit(Sampling(min_tokens=9), 10, card(max_tokens=7)) == 9
    assert answer_limit(Sampling(min_tokens=90), 10, card(max_tokens=7)) == 90
    with pytest.raises(InvalidRequest, match="min_tokens is 91, but the answer can have 90 at most"):
        answer_limit(Sampling(min_tokens=91), 10, card(max_tokens=7))


lengths = st.none() | st.integers(0, 60)


@given(st.integers(0, 60), st.integers(1, 50), lengths, lengths, lengths)
def test_prompt_and_answer_never_pass_the_context(prompt_tokens, window, most, length, usual):
    sampling = Sampling(max_tokens=most, max_length=length if most is None else None)
    try:
        limit = answer_limit(sampling, prompt_tokens, card(window, max_tokens=usual))
    except InvalidRequest:
        return
    assert 1 <= limit <= window - prompt_tokens
