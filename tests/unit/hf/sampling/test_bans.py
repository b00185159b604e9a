"""Banned tokens are never drawn, whatever else is asked for."""

import math

import pytest
import torch
from transformers import NoBadWordsLogitsProcessor

from gateway_hf.sampling.sampler import Draws, sample
from gateway_hf.sampling.terms import Terms

_CPU = torch.device("cpu")
_VOCABULARY = 20


def _draws(answer=(), **terms):
    draws = Draws(Terms(limit=99, **terms), [1, 2, 3], _VOCABULARY, _CPU)
    for token in answer:
        draws.note(token)
    return draws


def _banned(answer=(), **terms):
    logits = torch.zeros(_VOCABULARY)
    _draws(answer, **terms).adjust(logits)
    return {token for token, logit in enumerate(logits.tolist()) if logit == -math.inf}


def test_all_but_the_allowed_tokens_are_banned():
    assert _banned(allowed_token_ids=(4, 9)) == {*range(_VOCABULARY)} - {4, 9}


def test_a_word_of_one_token_is_always_banned():
    assert _banned(bad_words=((4,), (9,))) == {4, 9}
    assert _banned(bad_words=((4,),), allowed_token_ids=(4, 5)) == {*range(_VOCABULARY)} - {5}


@pytest.mark.parametrize(
    ("answer", "banned"),
    [
        ([], {8}), ([4], {5, 8}), ([5, 4], {5, 8}), ([4, 5], {7, 8}), ([4, 6], {8}), ([6, 4, 5], {7, 8}),
        ([3, 6, 5], {8}), ([5], {8}),
    ],
)  # fmt: skip
def test_of_a_longer_word_the_last_token_is_banned_behind_its_others(answer, banned):
    assert _banned(answer, bad_words=((4, 5), (4, 5, 7), (8,), (3, 5, 9))) == banned


def test_what_is_banned_is_what_transformers_bans():
    words = [[4, 5], [4, 5, 7], [8], [5, 5, 5, 9], [6, 4]]
    theirs = NoBadWordsLogitsProcessor(words, eos_token_id=0)
    generator = torch.Generator().manual_seed(3)
    draws = _draws(bad_words=tuple(map(tuple, words)))
    answer = []
    for _ in range(300):
        logits = torch.zeros(1, _VOCABULARY)
        expected = theirs(torch.tensor([[0, *answer]]), logits.clone())
        draws.adjust(logits[0])
        assert torch.equal(logits, expected)
        answer.append(int(torch.randint(4, 7, (1,), generator=generator)))
        draws.note(answer[-1])


def test_the_tokens_of_the_prompt_begin_no_word():
    assert _banned(bad_words=((3, 5),)) == set()


@pytest.mark.parametrize(
    "others",
    [
        {"temperature": 0.0},
        {"temperature": 2.0},
        {"top_k": 2},
        {"top_p": 0.3},
        {"min_p": 0.9},
        {"logit_bias": {0: 100.0}, "repetition_penalty": 2.0, "presence_penalty": -2.0, "frequency_penalty": -2.0},
    ],
)
def test_nothing_that_is_banned_is_drawn(others):
    draws = _draws(allowed_token_ids=(4, 5, 6), bad_words=((6,), (4, 4), (5, 5)), seed=3, **others)
    drawn = []
    for step in range(60):
        logits = torch.randn(1, _VOCABULARY, generator=torch.Generator().manual_seed(step)) * 5
        drawn += sample(logits, [draws])
    assert drawn in ([4, 5] * 30, [5, 4] * 30)
