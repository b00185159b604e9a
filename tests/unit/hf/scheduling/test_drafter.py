import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_hf.scheduling.drafter import Drafter, HitRate, worthwhile

_MOST = 8


def _follow(drafter, tokens, drawn, price=0.2):
    """Let an answer go on as it does, and return how many steps it took and how many guesses were computed."""
    steps = guesses = 0
    while drawn:
        most = min(_MOST, len(drawn) - 1)
        draft = drafter.propose(tokens, most)[: worthwhile(drafter.rate.share, price, most)]
        right = 0
        while right < len(draft) and draft[right] == drawn[right]:
            right += 1
        tokens += drawn[: right + 1]
        drafter.learn(drawn[: right + 1])
        drawn = drawn[right + 1 :]
        steps += 1
        guesses += len(draft)
    return steps, guesses


def test_what_followed_the_same_tokens_is_proposed():
    assert Drafter().propose([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], 3) == [4, 5, 6]


def test_the_latest_time_counts():
    assert Drafter().propose([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1) == [5]


def test_a_longer_run_is_better_evidence():
    assert Drafter().propose([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3], 1) == [4]


def test_two_tokens_are_evidence_too():
    assert Drafter().propose([1, 2, 3, 9, 1, 2], 1) == [3]


def test_what_repeats_goes_on_repeating():
    assert Drafter().propose([1, 2, 1, 2, 1], 5) == [2, 1, 2, 1, 2]


def test_nothing_known_is_nothing_proposed():
    for tokens in ([], [1], [1, 1], [1, 2, 3, 4]):
        assert Drafter().propose(tokens, 4) == []
    for most in (0, -1):
        assert Drafter().propose([1, 2, 1, 2, 1], most) == []


def _scan(tokens, most):
    """Look for what is proposed the slow way."""
    for gram in (3, 2):
        for at in range(len(tokens) - 1, gram - 1, -1):
            if tokens[at - gram : at] == tokens[-gram:]:
                return (tokens[at:] * most)[:most]
    return []


@given(tokens=st.lists(st.integers(0, 3), min_size=1, max_size=60), steps=st.lists(st.integers(1, 5), max_size=20))
def test_the_index_says_what_a_scan_would(tokens, steps):
    drafter, at = Drafter(), 0
    for step in [*steps, 60]:
        at = min(at + step, len(tokens))
        assert drafter.propose(tokens[:at], _MOST) == _scan(tokens[:at], _MOST)


def test_a_copied_text_takes_few_steps():
    text = list(range(200))
    steps, _ = _follow(Drafter(), [*text, 0, 1, 2], text[3:])
    assert steps <= len(text) / (_MOST + 1) + 6


def test_guesses_that_never_come_true_cost_little():
    # Every run of two is followed by another token than before, so each lookup finds something, and that is wrong.
    pairs = [token for extra in range(1000, 2000) for token in (1, 2, extra)]
    steps, guesses = _follow(Drafter(), pairs[:30], pairs[30:])
    assert steps == len(pairs) - 30
    assert 0 < guesses < steps / 20


def test_what_is_guessed_and_not_computed_is_learned_from_as_well():
    drafter, tokens = Drafter(), [1, 2, 3, 4, 5] * 2
    shares = []
    for _ in range(20):
        drafter.propose(tokens, _MOST)
        tokens.append(tokens[-5])
        drafter.learn(tokens[-1:])
        shares.append(drafter.rate.share)
    assert shares == sorted(set(shares))
    assert shares[-1] > 0.95


def test_only_what_follows_nothing_wrong_counts():
    wrong, none = Drafter(), Drafter()
    wrong.propose([1, 2, 3, 1, 2], 3)
    wrong.learn([9, 1, 2])
    assert wrong.rate.share < none.rate.share
    none.propose([1, 2, 3, 1, 2], 3)
    none.learn([])
    none.learn([9])  # in the place of nothing that was proposed
    assert none.rate.share == HitRate().share


def test_a_rate_that_learns_nothing_fades_to_where_it_began():
    rate = HitRate()
    rate.learn([1] * 20, [1] * 20)
    best = rate.share
    for _ in range(2000):
        rate.fade()
    assert best > 0.9
    assert rate.share == pytest.approx(HitRate().share, abs=0.01)


@pytest.mark.parametrize(
    ("share", "price", "count"),
    [(0.5, 0.6, 0), (0.5, 0.3, 1), (0.5, 0.2, 2), (0.9, 0.6, 4), (0.9, 0.0, _MOST), (1.0, 0.99, _MOST), (1.0, 1.0, 0)],
)
def test_a_guess_is_worth_it_while_it_comes_true_more_often_than_it_costs(share, price, count):
    assert worthwhile(share, price, _MOST) == count


def test_guessing_is_taken_up_again_where_it_pays_again():
    wrong = [token for extra in range(1000, 1100) for token in (1, 2, extra)]
    text = list(range(10_000, 11_000))
    drafter, tokens = Drafter(), [*text, *wrong[:30]]
    _follow(drafter, tokens, wrong[30:])
    steps, _ = _follow(drafter, tokens, text)
    assert steps < len(text) / 2


def test_a_token_more_is_cheap_however_long_the_answer():
    drafter, tokens = Drafter(), list(range(200_000))
    drafter.propose(tokens, _MOST)
    started = time.perf_counter()
    for token in range(1000):
        tokens.append(token)
        drafter.propose(tokens, _MOST)
    # A scan of the whole takes seconds; the index takes milliseconds.
    assert time.perf_counter() - started < 0.5
