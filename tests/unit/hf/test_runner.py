"""What is drawn of a step's logits, and who pays when something goes wrong; over a forward that needs no model."""

import itertools
import math
from hashlib import blake2b

import pytest
import torch

from gateway.engine import EngineError, InvalidRequest
from gateway_hf.runner import Runner
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Drawn, Sequence

_VOCABULARY = 40
_GREEDY = Terms(limit=99, temperature=0.0)


def _logits(tokens):
    """Logits `[vocabulary]` that depend on every token so far."""
    seed = int.from_bytes(blake2b(repr(list(tokens)).encode(), digest_size=6).digest(), "big")
    return torch.randn(_VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


class _Forward:
    """Answers each wanted row by the tokens up to it; `broken` sequences raise, those in `mad` get no numbers."""

    def __init__(self):
        self.passes = []
        self.forgotten = []
        self.broken = set()
        self.mad = set()

    def logits(self, chunks):
        self.passes.append(len(chunks))
        if any(chunk.sequence in self.broken for chunk in chunks):
            raise ZeroDivisionError
        rows, counts = [torch.empty(0, _VOCABULARY)], []
        for sequence, tokens in chunks:
            count = Chunk(sequence, tokens).wanted
            known = sequence.tokens + sequence.draft
            ends = range(sequence.computed + tokens - count + 1, sequence.computed + tokens + 1)
            rows += [_logits(known[:end])[None] * (math.nan if sequence in self.mad else 1) for end in ends]
            counts.append(count)
        return torch.cat(rows), counts

    def forget(self, sequence):
        self.forgotten.append(sequence)


@pytest.fixture
def forward():
    return _Forward()


@pytest.fixture
def runner(forward):
    return Runner(forward)


def _join(runner, prompt=(5, 6, 7), terms=_GREEDY):
    sequence = Sequence(list(prompt))
    runner.join(sequence, terms)
    return sequence


def _answer(runner, sequence, tokens, draft=lambda _: []):
    """Run a sequence until it has so many more tokens."""
    end = len(sequence.tokens) + tokens
    while len(sequence.tokens) < end:
        sequence.draft = draft(sequence)
        (outcome,) = runner.run([Chunk(sequence, sequence.pending + len(sequence.draft))])
        assert [each.id for each in outcome] == sequence.tokens[-len(outcome) :]
    return sequence.tokens[end - tokens : end]


def _greedy(prompt, tokens):
    known = list(prompt)
    for _ in range(tokens):
        known.append(int(_logits(known).argmax()))
    return known[len(prompt) :]


def test_nothing_is_drawn_while_tokens_are_pending(runner):
    sequence = _join(runner, range(10))
    assert runner.run([Chunk(sequence, 6)]) == [[]]
    assert (sequence.computed, len(sequence.tokens)) == (6, 10)
    (drawn,) = runner.run([Chunk(sequence, 4)])
    assert sequence.tokens[10:] == [each.id for each in drawn] == _greedy(range(10), 1)
    assert sequence.computed == 10


def test_a_step_may_hold_those_that_read_and_those_that_are_drawn(runner, forward):
    prompts = [range(10), (1, 2), (3,)]
    reading, one, other = [_join(runner, prompt) for prompt in prompts]
    outcomes = runner.run([Chunk(one, 2), Chunk(reading, 4), Chunk(other, 1)])
    assert [[each.id for each in outcome] for outcome in outcomes] == [_greedy((1, 2), 1), [], _greedy((3,), 1)]
    assert forward.passes == [3]


def test_a_draft_counts_as_far_as_it_is_right(runner):
    right = _greedy((5, 6, 7), 5)
    for wrong in range(5):
        sequence = _join(runner)
        _answer(runner, sequence, 1)
        draft = right[1:]
        if wrong < 4:
            draft[wrong] = (draft[wrong] + 1) % _VOCABULARY
        sequence.draft = draft
        (drawn,) = runner.run([Chunk(sequence, 5)])
        # What the model says after the last right guess is drawn too.
        assert [each.id for each in drawn] == [*right[1:], *_greedy((5, 6, 7, *right), 1)][: wrong + 1]
        assert sequence.computed == len(sequence.tokens) - 1


_DRAWN_BY_SEED = Terms(limit=99, seed=3, temperature=1.3, top_k=9, repetition_penalty=1.2, frequency_penalty=0.3)


@pytest.mark.parametrize("terms", [_GREEDY, _DRAWN_BY_SEED], ids=["greedy", "drawn"])
def test_guessing_never_changes_the_text(runner, terms):
    plain = _answer(runner, _join(runner, terms=terms), 40)

    def half_right(sequence):
        at = len(sequence.tokens) - sequence.prompt_tokens
        return [*plain[at : at + at % 3], 0, 1] if at else []

    assert _answer(runner, _join(runner, terms=terms), 40, half_right) == plain


def test_a_seed_means_the_same_whatever_runs_beside_it(runner):
    alone = _answer(runner, _join(runner, terms=_DRAWN_BY_SEED), 20)
    sequence = _join(runner, terms=_DRAWN_BY_SEED)
    others = [_join(runner, (at,), Terms(limit=99, temperature=0.1 * at)) for at in range(5)]
    for _ in range(20):
        runner.run([Chunk(each, each.pending) for each in (*others[:3], sequence, *others[3:])])
    assert sequence.tokens[3:] == alone


def test_where_all_is_banned_the_request_is_to_blame_and_says_by_what(runner, forward):
    banned = _join(runner, terms=Terms(limit=9, allowed_token_ids=(4, 5), bad_words=((4,), (5, 5))))
    other = _join(runner)
    assert _answer(runner, banned, 1) == [5]
    outcome, drawn = runner.run([Chunk(banned, banned.pending), Chunk(other, other.pending)])
    assert isinstance(outcome, InvalidRequest)
    assert outcome.param == "allowed_token_ids"
    assert [each.id for each in drawn] == _greedy((5, 6, 7), 1)
    words = _join(runner, terms=Terms(limit=9, bad_words=tuple((token,) for token in range(_VOCABULARY))))
    assert [each.param for each in runner.run([Chunk(words, words.pending)])] == ["bad_words"]


def test_a_model_without_numbers_is_to_blame_itself(runner, forward):
    sequence = _join(runner, terms=Terms(limit=9, allowed_token_ids=(4, 5)))
    forward.mad.add(sequence)
    (outcome,) = runner.run([Chunk(sequence, sequence.pending)])
    assert type(outcome) is EngineError


def test_bans_hold_for_guesses_too(runner):
    terms = Terms(limit=99, temperature=0.0, bad_words=tuple(zip(range(39), range(1, 40), strict=True)))
    plain = _answer(runner, _join(runner, terms=terms), 40)
    guessing = _answer(runner, _join(runner, terms=terms), 40, lambda each: plain[len(each.tokens) - 3 :][:4])
    assert guessing == plain
    assert all(following != token + 1 for token, following in itertools.pairwise(plain))


@pytest.mark.parametrize("beside", [(), ((4,),)])
def test_log_probabilities_are_those_of_the_unchanged_logits(runner, beside):
    sequence = _join(runner, terms=Terms(limit=9, temperature=0.5, top_k=1, logit_bias={2: 100.0}, logprobs=3))
    others = [_join(runner, prompt) for prompt in beside]
    drawn, *_ = runner.run([Chunk(each, each.pending) for each in (sequence, *others)])
    own, *top = drawn[0].logprobs
    expected = _logits((5, 6, 7)).log_softmax(-1)
    assert own.id == drawn[0].id == 2
    assert [each.id for each in top] == expected.topk(3).indices.tolist()
    assert [each.logprob for each in (own, *top)] == pytest.approx([float(expected[each.id]) for each in (own, *top)])


def test_log_probabilities_come_with_every_token_of_a_draft(runner):
    right = _greedy((5, 6, 7), 3)
    sequence = _join(runner, terms=Terms(limit=9, temperature=0.0, logprobs=0))
    _answer(runner, sequence, 1)
    sequence.draft = right[1:]
    (drawn,) = runner.run([Chunk(sequence, 3)])
    known = [5, 6, 7, right[0]]
    for each in drawn:
        assert each.logprobs[0].logprob == pytest.approx(float(_logits(known).log_softmax(-1)[each.id]))
        known.append(each.id)


def test_logits_that_are_no_numbers_end_their_own_sequence(runner, forward):
    good, bad, last = [_join(runner, (at,)) for at in range(3)]
    forward.mad.add(bad)
    outcomes = runner.run([Chunk(each, 1) for each in (good, bad, last)])
    assert isinstance(outcomes[1], EngineError)
    assert bad.tokens == [1]
    assert [outcomes[0], outcomes[2]] == [[Drawn(good.tokens[-1])], [Drawn(last.tokens[-1])]]
    assert good.tokens == [0, *_greedy((0,), 1)]


def test_a_pass_that_fails_is_run_for_each_alone(runner, forward, caplog):
    prompts = [(0, 3), (1, 3), (2, 3)]
    good, bad, last = [_join(runner, prompt) for prompt in prompts]
    forward.broken.add(bad)
    outcomes = runner.run([Chunk(each, 2) for each in (good, bad, last)])
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert (good.tokens[2:], last.tokens[2:]) == (_greedy((0, 3), 1), _greedy((2, 3), 1))
    assert forward.passes == [3, 1, 1, 1]
    assert "ZeroDivisionError" in caplog.text


def test_draws_that_are_broken_end_their_own_sequence(runner, caplog):
    good, bad = _join(runner, (0,)), _join(runner, (1,))
    _answer(runner, bad, 1)
    runner._draws[bad].adjust = lambda _: 1 / 0
    outcomes = runner.run([Chunk(good, 1), Chunk(bad, 1)])
    assert isinstance(outcomes[1], EngineError)
    assert good.tokens == [0, *_greedy((0,), 1)]
    assert "ZeroDivisionError" in caplog.text


def test_terms_that_nothing_can_be_drawn_by_end_their_own_sequence(runner):
    good, bad, worse = [_join(runner, (at,)) for at in range(3)]
    runner.join(bad, Terms(limit=9, top_k=-1))
    runner.join(worse, Terms(limit=9, logit_bias={"no token": 1.0}))
    outcomes = runner.run([Chunk(each, 1) for each in (worse, good, bad)])
    assert isinstance(outcomes[0], Exception)
    assert isinstance(outcomes[2], EngineError)
    assert (good.tokens, bad.tokens, worse.tokens) == ([0, *_greedy((0,), 1)], [1], [2])


def test_what_was_forgotten_is_held_no_longer(runner, forward):
    sequence = _join(runner)
    _answer(runner, sequence, 2)
    runner.forget(sequence)
    runner.forget(sequence)
    assert not runner._draws
    assert not runner._terms
    assert forward.forgotten == [sequence, sequence]


def _scored(runner, prompt, ranks=2, terms=_GREEDY):
    sequence = _join(runner, prompt, terms)
    sequence.ranks = ranks
    return sequence


def _check_scores(sequence, prompt):
    assert len(sequence.scores) == len(prompt) - 1
    for at, (own, *top) in enumerate(sequence.scores, start=1):
        expected = _logits(prompt[:at]).log_softmax(-1)
        assert own.id == prompt[at]
        assert [each.id for each in top] == expected.topk(sequence.ranks).indices.tolist()
        for each in (own, *top):
            assert each.logprob == pytest.approx(float(expected[each.id]), abs=1e-5)


@pytest.mark.parametrize("ranks", [0, 1, 3, 99])
@pytest.mark.parametrize("steps", [(), (1, 2), (39,), (40, 30)])
def test_a_prompt_is_scored_in_whatever_steps_it_is_read(runner, steps, ranks):
    prompt = [at * 7 % _VOCABULARY for at in range(75)]
    sequence = _scored(runner, prompt, min(ranks, _VOCABULARY), _DRAWN_BY_SEED)
    for step in (*steps, 75 - sum(steps)):
        (drawn,) = runner.run([Chunk(sequence, step)])
    assert len(drawn) == 1
    _check_scores(sequence, prompt)


def test_who_is_scored_and_who_is_not_run_in_one_step(runner):
    prompts = [list(range(9)), [1, 2], list(range(20, 31))]
    first, plain, second = _scored(runner, prompts[0]), _join(runner, prompts[1]), _scored(runner, prompts[2])
    outcomes = runner.run([Chunk(first, 9), Chunk(plain, 2), Chunk(second, 5)])
    assert [[each.id for each in outcome] for outcome in outcomes] == [_greedy(prompts[0], 1), _greedy((1, 2), 1), []]
    runner.run([Chunk(plain, 1), Chunk(second, 6), Chunk(first, 1)])
    assert plain.tokens[2:] == _greedy((1, 2), 2)
    _check_scores(first, prompts[0])
    _check_scores(second, prompts[2])


def test_what_was_preempted_is_not_scored_twice(runner):
    prompt = list(range(12))
    sequence = _scored(runner, prompt)
    runner.run([Chunk(sequence, 5)])
    sequence.computed = 0
    for step in (3, 4, 5):
        runner.run([Chunk(sequence, step)])
    _check_scores(sequence, prompt)
    assert sequence.tokens[12:] == _greedy(prompt, 1)
    sequence.computed = 0
    runner.run([Chunk(sequence, 13)])
    _check_scores(sequence, prompt)


@pytest.mark.parametrize("tokens", [2, 3])
def test_a_prompt_that_cannot_be_scored_ends_its_own_sequence(runner, forward, tokens):
    bad, good = _scored(runner, (1, 2, 3)), _scored(runner, (4, 5, 6))
    forward.mad.add(bad)
    outcomes = runner.run([Chunk(bad, tokens), Chunk(good, 3)])
    assert isinstance(outcomes[0], EngineError)
    assert bad.tokens == [1, 2, 3]
    assert [each.id for each in outcomes[1]] == _greedy((4, 5, 6), 1)
    _check_scores(good, [4, 5, 6])


def test_whatever_breaks_a_score_ends_its_own_sequence(runner):
    bad, good = _scored(runner, (1, 2, _VOCABULARY)), _join(runner, (4, 5, 6))
    outcomes = runner.run([Chunk(bad, 3), Chunk(good, 3)])
    assert isinstance(outcomes[0], Exception)
    assert [each.id for each in outcomes[1]] == _greedy((4, 5, 6), 1)
