import msgspec
import pytest
from msgspec import structs

from gateway.api.openai.schema import MOST_PROMPTS
from gateway.api.openai.translate import reword
from gateway.engine import (
    Capability,
    Completion,
    ContextTooLong,
    EngineError,
    InvalidRequest,
    Sampling,
    Tokens,
    Unsupported,
    answer_limit,
    needs,
)
from tests.support.openai_dialect import ABLE, asked, chat, prompts, text


def read(prompt):
    return [request.prompt for request in prompts(text(prompt=prompt)).requests]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a", [Completion("a")]),
        (["a"], [Completion("a")]),
        (["a", "b"], [Completion("a"), Completion("b")]),
        ([1, 2], [Tokens((1, 2))]),
        ([[1, 2], [3]], [Tokens((1, 2)), Tokens((3,))]),
        (["a", [3]], [Completion("a"), Tokens((3,))]),
    ],
)
def test_a_prompt_is_a_text_or_tokens_or_many_of_them(prompt, wanted):
    assert read(prompt) == wanted


@pytest.mark.parametrize("prompt", [[], [[]], [1, "a"], [1, [2]], ["a"] * (MOST_PROMPTS + 1)])
def test_a_prompt_that_is_none_is_refused(prompt):
    with pytest.raises(InvalidRequest) as refused:
        read(prompt)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize("prompt", ["", [""], None, 5, [-1], [[2**31 + 1]], [1.5], [None], {"a": 1}])
def test_a_prompt_of_another_type_is_not_even_decoded(prompt):
    with pytest.raises(msgspec.ValidationError):
        text(prompt=prompt)


@pytest.mark.parametrize("field", ["n", "best_of"])
def test_more_answers_than_one_request_may_have_are_refused(field):
    assert len(prompts(text(prompt=["a"] * 32, **{field: 8})).requests) == 32
    with pytest.raises(InvalidRequest, match="33 prompts with 8 answers") as refused:
        prompts(text(prompt=["a"] * 33, **{field: 8}))
    assert refused.value.param == field


def test_each_prompt_has_an_id_of_its_own():
    requests = prompts(text(prompt=["a", "b", "c"])).requests
    assert [request.id for request in requests] == ["1", "1.1", "1.2"]


def test_as_many_answers_are_made_as_are_given_unless_the_best_are_to_be_chosen():
    found = [prompts(body) for body in (chat(), chat(n=3), text(n=2, best_of=2), text(n=2, best_of=5))]
    assert [(each.n, each.best_of) for each in found] == [(1, 1), (3, 3), (2, 2), (2, 5)]
    assert [each.requests[0].sampling.logprobs for each in found] == [None, None, None, 0]


def test_the_callers_priority_goes_with_the_request():
    assert prompts(chat(), priority=7).requests[0].priority == 7


def test_a_completion_has_sixteen_tokens_unless_the_model_says_something_else():
    own = [structs.replace(ABLE, defaults=Sampling(**{name: 50})) for name in ("max_tokens", "max_length")]
    defaults = [asked(text(), card).defaults for card in (ABLE, *own)]
    assert defaults == [Sampling(max_tokens=16), Sampling(), Sampling()]
    assert asked(text(max_tokens=5)).defaults == Sampling()
    assert answer_limit(Sampling(), 10, ABLE.under(defaults[0])) == 16


def test_where_more_are_asked_for_at_least_the_sixteen_give_way():
    request = asked(text(min_tokens=20))
    assert answer_limit(request.sampling, 10, ABLE.under(request.defaults)) == 20


def test_a_chat_has_what_the_context_has_left():
    request = asked(chat())
    assert request.defaults == Sampling()
    assert answer_limit(request.sampling, 10, ABLE.under(request.defaults)) == 90


def test_what_is_left_out_is_left_to_the_model():
    assert asked(chat()).sampling == asked(text()).sampling == Sampling()


def test_an_answer_may_be_empty_where_there_is_something_else_to_see():
    bodies = [
        text(max_tokens=0, echo=True),
        text(max_tokens=0, prompt_logprobs=0),
        chat(max_tokens=0, prompt_logprobs=0),
    ]
    assert [asked(body).sampling.max_tokens for body in bodies] == [1, 1, 1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (text(max_tokens=0), "max_tokens"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_completion_tokens=0), "max_completion_tokens"),
        (chat(max_tokens=3, max_completion_tokens=4), "max_completion_tokens"),
        (chat(max_completion_tokens=3, min_tokens=4), "min_tokens"),
        (text(max_tokens=0, echo=True, min_tokens=1), "min_tokens"),
        (chat(top_logprobs=2), "top_logprobs"),
        (text(n=3, best_of=2), "best_of"),
        (text(best_of=2, stream=True), "best_of"),
        (chat(stream=True, prompt_logprobs=0), "prompt_logprobs"),
        (chat(stream_options={"include_usage": True}), "stream_options"),
        (chat(stream=True, stream_options={"include_obfuscation": True}), "stream_options.include_obfuscation"),
        (chat(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (chat(structured_outputs={}), "structured_outputs"),
        (text(structured_outputs={"regex": "a", "choice": ["a"]}), "structured_outputs"),
        (chat(structured_outputs={"regex": "a"}, response_format={"type": "json_object"}), "structured_outputs"),
    ],
)
def test_contradictions_are_refused_by_name(body, param):
    with pytest.raises(InvalidRequest) as refused:
        prompts(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        *({"n": n} for n in (0, -1, 9, 10_000)),
        {"top_logprobs": 21, "logprobs": True},
        {"max_tokens": -1},
        {"max_completion_tokens": 2**31 + 1},
        {"top_k": -2},
        {"min_tokens": -1},
        {"prompt_logprobs": 21},
        {"tools": [{"function": {"name": "f"}}] * 129},
        {"tools": [{"function": {"name": "a b"}}]},
        {"tools": [{"function": {"name": "f", "parameters": []}}]},
        {"tool_choice": "some"},
        {"metadata": {str(number): "" for number in range(17)}},
        {"metadata": {"a" * 65: ""}},
        {"metadata": {"a": "b" * 513}},
        {"service_tier": "fastest"},
        {"user": "u" * 513},
        {"cache_salt": ""},
        {"messages": []},
    ],
)
def test_a_value_out_of_range_is_not_even_decoded(fields):
    with pytest.raises(msgspec.ValidationError):
        chat(**fields)


@pytest.mark.parametrize(
    ("error", "body", "param"),
    [
        (ContextTooLong("long"), chat(), "messages"),
        (ContextTooLong("long", param="prompt"), text(), "prompt"),
        (Unsupported("an echo has no token ids"), text(prompt=[1]), None),
        (EngineError("broken"), chat(), None),
        (InvalidRequest("no", param="min_tokens"), chat(), "min_tokens"),
        (Unsupported("no", param="embedding"), chat(), "embedding"),
    ],
)
def test_an_error_names_the_field_in_this_dialects_words(error, body, param):
    reword(error, body)
    assert error.param == param


@pytest.mark.parametrize("body", [chat(), text()])
def test_a_prompt_too_long_is_told_in_the_words_that_clients_look_for(body):
    error = ContextTooLong("the prompt has 130 tokens")
    reword(error, body)
    assert "this model's maximum context length is" in error.message
    assert "context_length_exceeded" in error.message
    assert error.message.endswith(": the prompt has 130 tokens")


def test_two_lengths_that_differ_are_both_named():
    body = chat(max_tokens=2, max_completion_tokens=3)
    with pytest.raises(InvalidRequest) as refused:
        prompts(body)
    reword(refused.value, body)
    assert refused.value.message == "max_tokens is 2, max_completion_tokens is 3; give one of them"


@pytest.mark.parametrize("make", [chat, text])
def test_a_top_p_of_0_is_the_likeliest_token(make):
    sampling = asked(make(top_p=0, temperature=1.5, seed=3)).sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0, None, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"reasoning_effort": "minimal"},
        {"verbosity": "medium"},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": False},
        {"top_logprobs": 0, "logprobs": False},
        {"stream_options": {"include_usage": False}},
        {"functions": [], "function_call": "none", "modalities": ["text"]},
        {"prompt_cache_retention": "in-memory", "store": False},
    ],
)
def test_a_value_that_asks_for_nothing_is_taken(fields):
    assert asked(chat(**fields)).sampling == Sampling()


def test_tools_that_must_not_be_called_need_no_tools():
    body = chat(tools=[{"function": {"name": "f"}}], tool_choice="none", parallel_tool_calls=False)
    assert Capability.TOOLS not in needs(asked(body))
    assert Capability.TOOLS in needs(asked(chat(tools=[{"function": {"name": "f"}}])))


def test_a_message_names_the_length_as_the_body_did():
    for body, name in ((chat(max_completion_tokens=5), "max_completion_tokens"), (chat(max_tokens=5), "max_tokens")):
        error = InvalidRequest("max_tokens is 5; that is too many", param="max_tokens")
        reword(error, body)
        assert (error.param, error.message) == (name, f"{name} is 5; that is too many")
