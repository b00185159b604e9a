"""What is drawn has transformers' own probabilities; how it is drawn is tested on the draws themselves."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gateway_hf.sampling import sampler
from gateway_hf.sampling.sampler import Draws, probabilities, sample
from gateway_hf.sampling.terms import Terms

_VOCABULARY = 3000
_CPU = torch.device("cpu")


def _logits(seed=0, vocabulary=_VOCABULARY, width=3.0):
    return torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed)) * width


def _terms(**fields):
    return Terms(limit=1000, **fields)


def _ours(logits, terms, prompt=(), answer=()):
    logits = logits.clone()
    draws = Draws(terms, prompt, logits.shape[-1], _CPU)
    for token in answer:
        draws.note(token)
    draws.adjust(logits[0])
    return probabilities(logits, [terms])


def _theirs(logits, processors, tokens=(0,)):
    return LogitsProcessorList(processors)(torch.tensor([tokens]), logits.clone()).softmax(-1)


_SETS = [
    (_terms(temperature=0.7), [TemperatureLogitsWarper(0.7)]),
    (_terms(top_k=7), [TopKLogitsWarper(7)]),
    (_terms(top_k=99999), [TopKLogitsWarper(99999)]),
    (_terms(top_p=0.9), [TopPLogitsWarper(0.9)]),
    (_terms(top_p=0.05), [TopPLogitsWarper(0.05)]),
    (_terms(top_p=0.0), [TopPLogitsWarper(0.0)]),
    (_terms(min_p=0.1), [MinPLogitsWarper(0.1)]),
    (_terms(min_p=1.0), [MinPLogitsWarper(1.0)]),
    (
        _terms(temperature=1.7, top_k=200, top_p=0.8, min_p=0.02),
        [TemperatureLogitsWarper(1.7), TopKLogitsWarper(200), TopPLogitsWarper(0.8), MinPLogitsWarper(0.02)],
    ),
]


@pytest.mark.parametrize(("terms", "processors"), _SETS)
@pytest.mark.parametrize("width", [0.3, 3.0])
def test_probabilities_are_those_of_transformers(terms, processors, width):
    logits = _logits(width=width)
    ours, theirs = _ours(logits, terms), _theirs(logits, processors)
    assert torch.equal(ours > 0, theirs > 0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)


@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(1, 40),
    top_p=st.floats(0.05, 0.99),
    min_p=st.floats(0.001, 0.9),
)
@settings(max_examples=60, deadline=None)
def test_any_mixture_has_transformers_probabilities(seed, temperature, top_k, top_p, min_p):
    logits = _logits(seed, vocabulary=48)
    terms = _terms(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    processors = [
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(top_k),
        TopPLogitsWarper(top_p),
        MinPLogitsWarper(min_p),
    ]
    torch.testing.assert_close(_ours(logits, terms), _theirs(logits, processors), rtol=1e-5, atol=1e-9)


def test_a_tie_at_the_rank_of_top_k_keeps_both():
    logits = torch.tensor([[3.0, 1.0, 1.0, 0.0]])
    assert (_ours(logits, _terms(top_k=2)) > 0).tolist() == [[True, True, True, False]]


def test_rows_of_a_batch_are_each_cut_by_their_own_terms():
    logits = torch.cat([_logits(seed) for seed in range(len(_SETS))])
    together = probabilities(logits.clone(), [terms for terms, _ in _SETS])
    for row, (terms, _) in enumerate(_SETS):
        torch.testing.assert_close(together[row : row + 1], probabilities(logits[row : row + 1].clone(), [terms]))


def test_top_p_is_the_same_whether_few_or_all_tokens_are_sorted(monkeypatch):
    logits, terms = _logits(width=0.3), _terms(top_p=0.9)
    quick = _ours(logits, terms)
    monkeypatch.setattr(sampler, "_CANDIDATES", 10)
    assert torch.equal(quick, _ours(logits, terms))


def test_the_repetition_penalty_is_that_of_transformers_over_prompt_and_answer():
    logits, prompt, answer = _logits(), [5, 9, 9, 700], [9, 11]
    ours = _ours(logits, _terms(repetition_penalty=1.3), prompt, answer)
    theirs = _theirs(logits, [RepetitionPenaltyLogitsProcessor(1.3)], prompt + answer)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_ending_early_is_banned_as_in_transformers():
    logits, ends = _logits(), [3, 8]
    terms = _terms(min_tokens=2, eos_ids=frozenset({3}), stop_token_ids=frozenset({8}))
    for answer in ([], [1], [1, 1], [1, 1, 1]):
        theirs = _theirs(logits, [MinNewTokensLengthLogitsProcessor(4, 2, ends)], [0, 0, 0, 0, *answer])
        torch.testing.assert_close(_ours(logits, terms, [0] * 4, answer), theirs, rtol=1e-6, atol=0)


def test_presence_and_frequency_count_the_answer_only():
    logits, prompt, answer = _logits(), [1, 1], [2, 2, 3]
    ours = _ours(logits, _terms(presence_penalty=0.5, frequency_penalty=0.25), prompt, answer)
    expected = logits.clone()
    expected[0, 2] -= 0.5 + 2 * 0.25
    expected[0, 3] -= 0.5 + 0.25
    torch.testing.assert_close(ours, expected.softmax(-1), rtol=1e-6, atol=0)


def test_a_bias_is_added_before_the_repetition_penalty():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    ours = _ours(logits, _terms(logit_bias={0: -3.0, 2: 1.0}, repetition_penalty=2.0), [0, 2])
    torch.testing.assert_close(ours, torch.tensor([[-4.0, 2.0, 2.0]]).softmax(-1))


def test_greedy_takes_the_best_of_each_row():
    logits = torch.tensor([[0.0, 5.0, 1.0], [2.0, 0.0, 1.0]])
    assert sample(logits, [Draws(_terms(temperature=0.0), [], 3, _CPU) for _ in range(2)]) == [1, 0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_row_without_numbers_fails_alone(temperature, poison):
    logits = torch.cat([_logits(0), _logits(1), _logits(2)])
    alone = sample(logits[[0, 2]].clone(), [Draws(_terms(temperature=temperature, seed=1), [], 1, _CPU) for _ in "ab"])
    logits[1, 17] = poison
    tokens = sample(logits, [Draws(_terms(temperature=temperature, seed=1), [], 1, _CPU) for _ in "abc"])
    assert tokens == [alone[0], None, alone[1]]


@pytest.mark.parametrize("broken", [{"top_k": -1}, {"min_p": 2.0}, {"temperature": math.nan}])
def test_terms_that_draw_nothing_fail_alone_and_change_no_other_draw(caplog, broken):
    def drawn(*rows):
        draws = [Draws(_terms(seed=at, **changes), [], _VOCABULARY, _CPU) for at, changes in rows]
        return [sample(torch.cat([_logits(at + step) for at, _ in rows]), draws) for step in range(5)]

    alone = drawn((0, {}), (2, {"top_p": 0.8}))
    beside = drawn((0, {}), (1, broken), (2, {"top_p": 0.8}))
    assert beside == [[first, None, last] for first, last in alone]
    assert "no token can be drawn for one sequence" in caplog.text


def test_a_row_where_everything_is_forbidden_has_no_token():
    terms = _terms(min_tokens=1, eos_ids=frozenset({0, 1}))
    assert sample(torch.zeros(1, 2), [Draws(terms, [], 2, _CPU)]) == [None]


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 100.0])
def test_an_extreme_temperature_still_draws(temperature):
    assert sample(_logits(), [Draws(_terms(temperature=temperature), [], _VOCABULARY, _CPU)]) != [None]


_TINY = (5e-324, 1e-320, 1.4e-45, 1.17e-38, 1e-30, 1e-7)
_EDGES = {
    "temperature": (*_TINY, -0.0, 1e-5, 2.0),
    "top_p": (*_TINY, -0.0, 1 - 1e-10, 1.0),
    "min_p": (*_TINY, -0.0, 1 - 1e-10, 1.0),
    "top_k": (0, 1, 2**31),
    "repetition_penalty": (1e-3, 1 + 1e-10, 10.0),
    "presence_penalty": (*_TINY, -2.0, -0.0, 2.0),
    "frequency_penalty": (5e-324, -2.0, 2.0),
    "logit_bias": ({0: 100.0, 1: -100.0}, {0: 5e-324}, {0: -0.0}),
}


@pytest.mark.parametrize("width", [0.0, 1.0, 1e4])
@given(fields=st.fixed_dictionaries({}, optional={name: st.sampled_from(edges) for name, edges in _EDGES.items()}))
def test_parameters_at_the_edges_of_numbers_still_draw(fields, width):
    """Those that a request may have: what float32 rounds to 0 or to infinity is no reason to draw none."""
    draws = [Draws(terms, [1, 2], 50, _CPU) for terms in (_terms(**fields), _terms(), _terms(**fields))]
    for step in range(2):
        logits = torch.cat([_logits(step + row, 50, width) for row in range(3)])
        assert all(token in range(50) for token in sample(logits, draws))


def test_the_same_seed_draws_the_same_whoever_is_beside_it():
    def draw(beside):
        ours = Draws(_terms(seed=11), [], _VOCABULARY, _CPU)
        others = [Draws(_terms(), [], _VOCABULARY, _CPU) for _ in range(beside)]
        return [sample(torch.cat([_logits(step)] * (beside + 1)), [*others, ours])[-1] for step in range(20)]

    assert draw(0) == draw(3)


def test_any_integer_is_a_seed():
    for seed in (0, -1, 2**64, 2**63):
        assert sample(_logits(), [Draws(_terms(seed=seed), [], _VOCABULARY, _CPU)]) != [None]


def test_the_draw_follows_the_probabilities():
    logits = torch.tensor([[0.0, 1.0, 2.0, -math.inf, 1.5]])
    terms, times = _terms(temperature=1.2, seed=5), 20_000
    draws = Draws(terms, [], 5, _CPU)
    found = Counter(sample(logits.clone(), [draws])[0] for _ in range(times))
    expected = probabilities(logits, [terms])[0].tolist()
    assert found[3] == 0
    chi = sum((found[token] - times * p) ** 2 / (times * p) for token, p in enumerate(expected) if p)
    assert chi < 16.3  # three degrees of freedom: one seed in a thousand is beyond


def test_the_first_and_the_last_random_number_draw_possible_tokens(monkeypatch):
    logits = torch.tensor([[-math.inf, 1.0, 2.0, -math.inf]])
    draws = Draws(_terms(), [], 4, _CPU)
    for number in (0.0, 1.0 - 2**-53):
        monkeypatch.setattr(draws.random, "random", lambda number=number: number)
        assert sample(logits.clone(), [draws])[0] in {1, 2}
