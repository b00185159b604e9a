"""The log-probabilities of one reply are counted before they are made where that can be, and when they come."""

import pytest

from gateway.api.exchange.asked import Prompts
from gateway.api.exchange.score_budget import budget_of
from gateway.engine import (
    Completion,
    GenerateRequest,
    InvalidRequest,
    ModelCard,
    Sampling,
    Started,
    TokenLogprob,
    Tokens,
)

CARD = ModelCard(name="m", context_window=50, capabilities=frozenset())


def budget(*prompts, most=100, best_of=1, truncate=None, defaults=Sampling(), card=CARD, **sampling):  # noqa: B008
    requests = tuple(
        GenerateRequest(
            id=str(number),
            model="m",
            prompt=Tokens(prompt) if isinstance(prompt, tuple) else Completion(prompt),
            sampling=Sampling(**sampling),
            defaults=defaults,
            truncate=truncate,
        )
        for number, prompt in enumerate(prompts)
    )
    return budget_of(Prompts(requests, 1, best_of), card, most)


def read(tokens):
    return Started(tokens, prompt_logprobs=(TokenLogprob(1, "x", -1.0),) * tokens)


def test_what_tells_no_log_probability_needs_no_budget():
    assert budget("x") is None


def test_what_is_not_scored_takes_nothing_of_it():
    answers = budget("x", logprobs=0)
    assert not answers.has_prompts
    answers.check_prompts()
    assert answers.see(Started(1)) == 0
    prompts = budget("x", prompt_logprobs=0)
    assert prompts.bound_answers() is prompts._prompts
    assert prompts.used == 0


@pytest.mark.parametrize(("ids", "best_of", "truncate"), [(25, 1, None), (12, 2, None), (60, 1, 25)])
def test_ids_are_counted_before_they_are_read(ids, best_of, truncate):
    budget((7,) * ids, best_of=best_of, truncate=truncate, prompt_logprobs=3).check_prompts()
    too_many = budget((7,) * (ids + 1), best_of=best_of, truncate=truncate and truncate + 1, prompt_logprobs=3)
    with pytest.raises(InvalidRequest, match=r"100 are the most in one reply \(server.max_logprobs\)") as refusal:
        too_many.check_prompts()
    assert refusal.value.param == "prompt_logprobs"


def test_texts_are_counted_when_they_are_read():
    scored = budget("a", "b", prompt_logprobs=3)
    scored.check_prompts()
    assert scored.see(read(10)) == 40
    assert scored.see(read(15)) == 60
    with pytest.raises(InvalidRequest, match="beside 100"):
        scored.see(read(1))


def test_ids_of_prompts_are_counted_with_each_answer():
    told = budget("a", best_of=2, token_ids=True, most=10)
    told.check_prompts()
    assert told.bound_answers() is told._prompts
    assert told.see(Started(40, prompt_ids=(7,) * 40)) == 40
    assert told.see(Started(40, prompt_ids=(7,) * 40)) == 40
    assert told.used == 0
    with pytest.raises(InvalidRequest, match=r"more than 80 ids.*server.max_logprobs") as refusal:
        told.see(Started(1, prompt_ids=(7,)))
    assert refusal.value.param == "token_ids"


def test_stated_lengths_are_refused_where_they_are_too_much():
    assert budget("x", logprobs=1, max_tokens=50).bound_answers().requests[0].sampling.max_tokens == 50
    with pytest.raises(InvalidRequest, match="2 answers of 26 tokens") as refusal:
        budget("x", best_of=2, logprobs=1, max_tokens=26).bound_answers()
    assert refusal.value.param == "logprobs"
    # No answer is longer than the context.
    budget("x", logprobs=1, max_tokens=5_000).bound_answers()


def test_an_unstated_length_is_what_is_left():
    assert budget("x", logprobs=1).bound_answers().requests[0].defaults.max_tokens is None
    assert budget("x", logprobs=3).bound_answers().requests[0].defaults.max_tokens == 25
    # Of a text's tokens it is not known what they take: half is theirs.
    assert budget("x", logprobs=3, prompt_logprobs=0).bound_answers().requests[0].defaults.max_tokens == 12
    assert budget((1,) * 20, logprobs=3, prompt_logprobs=0).bound_answers().requests[0].defaults.max_tokens == 20
    short = budget("x", logprobs=3, defaults=Sampling(max_tokens=16))
    assert short.bound_answers().requests[0].defaults.max_tokens == 16
    long = budget("x", logprobs=3, defaults=Sampling(max_length=40)).bound_answers().requests[0]
    assert long.defaults == Sampling(max_tokens=25)
