import pytest

from gateway.engine import ContextTooLong, InvalidRequest, ModelCard, Sampling
from gateway_hf.sampling.terms import settle

_CARD = ModelCard(name="m", context_window=100, capabilities=frozenset(), vocabulary=50)
_EOS = frozenset({2})


def _with(**defaults):
    return ModelCard(
        name="m", context_window=100, capabilities=frozenset(), vocabulary=50, defaults=Sampling(**defaults)
    )


def test_what_nobody_set_is_neutral():
    terms = settle(Sampling(), 10, _CARD, _EOS)
    assert (terms.temperature, terms.top_p, terms.top_k, terms.min_p) == (1.0, 1.0, 0, 0.0)
    assert (terms.repetition_penalty, terms.presence_penalty, terms.frequency_penalty) == (1.0, 0.0, 0.0)
    assert (terms.limit, terms.end_ids) == (90, _EOS)


def test_the_request_wins_over_the_models_default():
    card = _with(temperature=0.6, top_k=40, stop_token_ids=(7,))
    terms = settle(Sampling(temperature=0.0), 10, card, _EOS)
    assert (terms.temperature, terms.top_k, terms.stop_token_ids) == (0.0, 40, {7})
    assert terms.greedy


@pytest.mark.parametrize(
    ("sampling", "limit"),
    [
        (Sampling(max_tokens=5), 5),
        (Sampling(max_tokens=90), 90),
        (Sampling(max_length=15), 5),
        (Sampling(max_length=100), 90),
    ],
)
def test_the_limit_is_what_was_asked(sampling, limit):
    assert settle(sampling, 10, _CARD, _EOS).limit == limit


@pytest.mark.parametrize(
    ("defaults", "limit"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "min_tokens": 9}, 7),
        ({"max_length": 17}, 7),
        ({"max_length": 5}, 90),
        ({"max_tokens": 999}, 90),
    ],
)
def test_a_default_limit_never_refuses(defaults, limit):
    assert settle(Sampling(), 10, _with(**defaults), _EOS).limit == limit


def test_a_prompt_beyond_the_context_is_refused_with_numbers():
    with pytest.raises(ContextTooLong, match="the prompt has 130 tokens; 30 too many for the context of 100"):
        settle(Sampling(), 130, _CARD, _EOS)


def test_a_prompt_that_fills_the_context_leaves_no_room():
    with pytest.raises(ContextTooLong, match="100 tokens; that leaves no room"):
        settle(Sampling(), 100, _CARD, _EOS)


@pytest.mark.parametrize(
    ("sampling", "param"), [(Sampling(max_tokens=91), "max_tokens"), (Sampling(max_length=101), "max_length")]
)
def test_an_answer_beyond_the_context_is_refused_with_numbers(sampling, param):
    with pytest.raises(ContextTooLong, match="10 tokens and 91 are to follow; 1 too many") as caught:
        settle(sampling, 10, _CARD, _EOS)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(max_length=10), "max_length"),
        (Sampling(max_length=1), "max_length"),
        (Sampling(max_tokens=0), "max_tokens"),
        (Sampling(max_tokens=4, min_tokens=5), "min_tokens"),
        (Sampling(logit_bias={50: 1.0}), "logit_bias"),
        (Sampling(logit_bias={-1: 1.0}), "logit_bias"),
        (Sampling(stop_token_ids=(3, 999999999)), "stop_token_ids"),
    ],
)
def test_the_impossible_is_refused_by_name(sampling, param):
    with pytest.raises(InvalidRequest) as caught:
        settle(sampling, 10, _CARD, _EOS)
    assert (type(caught.value), caught.value.param) == (InvalidRequest, param)
    assert param in caught.value.message


def test_an_ignored_end_of_sequence_ends_nothing_but_stop_tokens_do():
    terms = settle(Sampling(ignore_eos=True, stop_token_ids=(9,)), 10, _CARD, _EOS)
    assert terms.end_ids == {9}


@pytest.mark.parametrize("penalty", [5e-324, 1e-320, 9e-4, 1e308, float("inf"), float("nan")])
def test_a_penalty_that_leaves_no_number_of_a_logit_is_refused(penalty):
    with pytest.raises(InvalidRequest, match=r"it goes from 0\.001 to 1000") as refused:
        settle(Sampling(repetition_penalty=penalty), 10, _CARD, _EOS)
    assert refused.value.param == "repetition_penalty"


@pytest.mark.parametrize("penalty", [0.001, 1.0, 10.0])
def test_a_penalty_that_can_be_computed_with_is_taken(penalty):
    assert settle(Sampling(repetition_penalty=penalty), 10, _CARD, _EOS).repetition_penalty == penalty
