import time

from hypothesis import given
from hypothesis import strategies as st

from gateway_hf.scheduling.drafter import Drafter

_MOST = 8


def _follow(drafter, tokens, drawn):
    """Let an answer go on as it does, and return how many steps it took and how many guesses were computed."""
    steps = guesses = 0
    while drawn:
        draft = drafter.propose(tokens, min(_MOST, len(drawn) - 1))
        right = 0
        while right < len(draft) and draft[right] == drawn[right]:
            right += 1
        tokens += drawn[: right + 1]
        drawn = drawn[right + 1 :]
        if draft:
            drafter.learn(tokens, len(draft), right)
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
    assert steps <= len(text) / (_MOST + 1) + 1


def test_guesses_that_never_come_true_cost_little():
    # Every run of two is followed by another token than before, so each lookup finds something, and that is wrong.
    pairs = [token for extra in range(1000, 2000) for token in (1, 2, extra)]
    steps, guesses = _follow(Drafter(), pairs[:30], pairs[30:])
    assert steps == len(pairs) - 30
    assert 0 < guesses < steps / 20


def test_guesses_that_fail_get_shorter():
    drafter, tokens, lengths = Drafter(), [1, 2, 3, 4, 5] * 2, []
    for _ in range(3):
        lengths.append(len(drafter.propose(tokens, _MOST)))
        drafter.learn(tokens, _MOST, 0)
    assert lengths == sorted(set(lengths), reverse=True)


def _fail(drafter, tokens):
    """Let guesses fail until none is made, and say for how many tokens none is."""
    while drafter.propose(tokens, _MOST):
        drafter.learn(tokens, 1, 0)
    rest = 0
    while not drafter.propose(tokens, _MOST):
        tokens.append(tokens[-5])
        rest += 1
    return rest


def test_rests_get_longer_until_a_guess_comes_true():
    drafter, tokens = Drafter(), [1, 2, 3, 4, 5] * 2
    first, second = _fail(drafter, tokens), _fail(drafter, tokens)
    assert second == 2 * first
    drafter.learn(tokens, 1, 1)
    assert _fail(drafter, tokens) == first


def test_after_a_rest_one_guess_decides():
    drafter, tokens = Drafter(), [1, 2, 3, 4, 5] * 2
    _fail(drafter, tokens)
    drafter.learn(tokens, 2, 0)
    assert drafter.propose(tokens, _MOST) == []


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
