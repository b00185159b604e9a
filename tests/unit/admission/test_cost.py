"""What a request may cost is bounded before its prompt is tokenized."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import pairs_bound, prompt_bound, reading_cost
from gateway.admission.cost import cost
from gateway.engine import (
    Chat,
    Completion,
    GenerateRequest,
    Image,
    Message,
    ModelCard,
    Sampling,
    ScoreRequest,
    Text,
    Thought,
    Tokens,
    Tool,
    ToolCall,
    ToolResult,
)

CARD = ModelCard(name="m", context_window=1_000, capabilities=frozenset(), cache_tokens=4_000)


def asked(text="x", **sampling):
    return GenerateRequest(id="1", model="m", prompt=Completion(text), sampling=Sampling(**sampling))


@given(st.text())
def test_no_text_has_more_bytes_than_its_bound(text):
    assert prompt_bound(Completion(text)) > len(text.encode("utf-8", "replace"))


def test_tokens_are_counted_as_they_are():
    assert prompt_bound(Tokens((1, 2, 3))) == 3


def test_every_part_of_a_conversation_counts():
    parts = (Text("é" * 10), Image(b"", "image/png"), ToolCall("i", "name", "{}"), ToolResult("i", "sun"))
    parts = (*parts, Thought("hm"))
    bare = prompt_bound(Chat(()))
    bounds = [prompt_bound(Chat((Message("user", parts[:count]),))) for count in range(6)]
    assert bare < bounds[0] < bounds[1] < bounds[2] < bounds[3] < bounds[4] < bounds[5]
    assert bounds[1] - bounds[0] == 20
    assert prompt_bound(Chat((), tools=(Tool("t", "says", {"type": "object"}),))) > bare


def test_a_stated_length_is_reserved_and_no_more():
    assert cost(asked(max_tokens=7), CARD, 100, 512) == 107
    assert cost(asked(max_length=150), CARD, 100, 512) == 150


def test_a_configured_default_counts_where_the_request_says_nothing():
    request = GenerateRequest(id="1", model="m", prompt=Completion("x"), defaults=Sampling(max_tokens=9))
    assert cost(request, CARD, 100, 512) == 109


def test_an_unstated_length_is_taken_to_be_usual():
    assert cost(asked(), CARD, 100, 512) == 612


@pytest.mark.parametrize("cache", [0, 700, 4_000])
def test_nothing_costs_more_than_the_context_or_the_cache(cache):
    card = ModelCard(name="m", context_window=1_000, capabilities=frozenset(), cache_tokens=cache)
    assert cost(asked(max_tokens=10**9), card, 10**6, 512) == min(1_000, cache or 1_000)


def test_a_request_always_costs_something():
    assert cost(asked(max_length=1), CARD, 0, 512) == 1


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        (Completion(""), 1),
        (Completion("x" * 62), 1),
        (Completion("x" * 63), 2),
        (Tokens(()), 1),
        (Tokens((7,) * 15), 1),
        (Tokens((7,) * 16), 2),
        (Completion(" " * 3_900_000), 60_938),
    ],
)
def test_what_is_only_read_costs_by_its_size(prompt, tokens):
    assert reading_cost(prompt) == tokens


def test_log_probabilities_cost_a_token_for_each_eight():
    plain = cost(asked(max_tokens=80), CARD, 100, 0)
    assert plain == 180
    assert cost(asked(max_tokens=80, logprobs=0), CARD, 100, 0) == plain + 10
    assert cost(asked(max_tokens=80, prompt_logprobs=1), CARD, 100, 0) == plain + 25
    assert cost(asked(max_tokens=80, prompt_logprobs=20, logprobs=20), CARD, 100, 0) == plain + 472
    assert cost(asked(max_tokens=500, prompt_logprobs=20), CARD, 400, 0) == CARD.context_window


def test_pairs_cost_the_query_with_each_document_but_no_more_than_a_model_reads():
    def bound(queries, *documents):
        request = ScoreRequest(
            id="", model="m", documents=tuple(map(Completion, documents)), queries=tuple(map(Completion, queries))
        )
        return pairs_bound(request, CARD)

    assert bound(["abc"], "a", "bc") == 1 + (4 + 2) + (4 + 3)
    assert bound(["a", "abc"], "a", "bc") == 1 + (2 + 2) + (4 + 3)
    assert bound([], "a", "bc") == 1 + 2 + 3
    assert bound(["abc"], "x" * 5_000, "a") == 1 + 1_000 + (4 + 2)
