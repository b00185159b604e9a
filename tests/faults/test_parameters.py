"""Parameters out of range, prompts that do not fit, and knobs that nobody here turns."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.observe import is_error

CONTEXT = 4_096
MOST = 2**31


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_new_tokens", [0, -1, MOST + 1, 10**9 * 10]),
        ("max_length", [0, -1, MOST + 1]),
        ("min_new_tokens", [-1, MOST + 1]),
        ("temperature", [-1, -0.001, 2.001, 3]),
        ("top_p", [-1, 1.001, 1.1]),
        ("top_k", [-2, MOST + 1]),
        ("min_p", [-0.1, 1.1]),
        ("repetition_penalty", [0, -0.0, -1, 10.1, 5e-324, 1e-320, 1e-38, 9e-4]),
        ("presence_penalty", [-2.1, 2.1]),
        ("frequency_penalty", [-2.1, 2.1]),
        ("seed", [2**63, 2**64, -(2**63) - 1]),
        ("stop", ["", list("abcdefghijklmnopq"), [""], ["a", ""], "a" * 513, ["a" * 513], 5, [5], {}]),
        ("stop_token_ids", [[-1], [MOST + 1], ["1"], [1.5], [0] * 1_025, 5]),
        ("logit_bias", [{"-1": 1}, {"abc": 1}, {"1.5": 1}, {"": 1}, {str(MOST + 1): 1}]),
        ("logit_bias", [{"1": 1e9}, {"1": -100.1}, {"1": "1"}, {"1": None}, [1], dict.fromkeys(range(1_025), 1)]),
        ("ignore_eos", [1, "true", []]),
        ("stream", [1, "true", None]),
        ("return_full_text", [1, None]),
        ("model", ["", "a" * 513, 5, ["echo"]]),
        ("prompt", ["", 5, ["a"], {"text": "a"}]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_out_of_range_is_refused_by_name(edge, field, values):
    for value in values:
        answer = edge.generate(**{"prompt": "a"} | {field: value})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "invalid_value"), value
        assert error["param"].partition("[")[0] == field
        assert is_error(answer, 400, "invalid_value", error["param"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 1),
        ("temperature", 0),
        ("temperature", 2),
        ("top_p", 0),
        ("top_p", 1e-9),
        ("top_p", 1),
        ("top_k", 0),
        ("top_k", -1),
        ("min_p", 1),
        ("repetition_penalty", 1),
        ("presence_penalty", 0),
        ("seed", 2**63 - 1),
        ("seed", -(2**63)),
        ("stop", list("bcdefghijklmnopq")),
        ("stop", []),
        ("stop", "x" * 512),
        ("stop_token_ids", []),
        ("logit_bias", {}),
        ("model", None),
        ("model", "default"),
    ],
)
def test_a_value_at_its_limit_is_taken(edge, field, value):
    assert edge.generate(prompt="a", **{field: value}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "messages"),
        ({"prompt": "a", "max_length": 9, "max_new_tokens": 9}, "max_length"),
        ({"prompt": "a", "min_new_tokens": 9, "max_new_tokens": 3}, "min_new_tokens"),
        ({"prompt": "a", "min_new_tokens": 9, "max_length": 3}, "min_new_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a"}] * 2_049}, "messages"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(edge, body, param):
    assert is_error(edge.generate(**body), 400, "invalid_value", param)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a " * 2 * CONTEXT},
        {"prompt": "a " * CONTEXT},
        {"prompt": "a ", "max_new_tokens": CONTEXT},
        {"prompt": "a ", "max_new_tokens": 10**9},
        {"messages": [{"role": "user", "content": "a " * CONTEXT}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a " * CONTEXT}]},
    ],
    ids=["twice", "all", "with the answer", "a billion", "chat", "chat's middle"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_does_not_fit_the_context_is_refused(edge, body, stream):
    answer = edge.generate(**body, stream=stream)
    param = "messages" if "messages" in body else "max_new_tokens" if "max_new_tokens" in body else "prompt"
    assert is_error(answer, 400, "context_length_exceeded", param)
    assert any(character.isdigit() for character in answer.json()["error"]["message"])


def test_a_length_that_the_prompt_has_used_up_is_refused(edge):
    answer = edge.generate(prompt="a b c ", max_length=3)
    assert is_error(answer, 400, "invalid_value", "max_length")


def test_a_least_beyond_the_limit_is_refused_in_the_words_of_the_body(edge):
    answer = edge.generate(prompt="a b c ", max_length=8, min_new_tokens=6)
    assert is_error(answer, 400, "invalid_value", "min_new_tokens")
    assert answer.json()["error"]["message"] == "min_new_tokens is 6, but the answer can have 5 at most"


def test_an_entry_of_a_table_is_named_by_its_key(edge):
    assert is_error(edge.generate(prompt="a", logit_bias={"5": 1, "7": 101}), 400, "invalid_value", "logit_bias[7]")
    assert is_error(edge.generate(prompt="a", logit_bias={"5": 1, "x": 1}), 400, "invalid_value", "logit_bias[x]")


def test_what_just_fits_the_context_is_taken(edge):
    answer = edge.generate(prompt="a " * (CONTEXT - 1), max_new_tokens=1)
    assert answer.json()["usage"] == {
        "prompt_tokens": CONTEXT - 1,
        "completion_tokens": 1,
        "total_tokens": CONTEXT,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a " * 5_242_880},
        {"prompt": "a", "stop": "s" * 10_485_760},
        {"messages": [{"role": "user", "content": "a" * 40}] * 100_000},
    ],
    ids=["prompt", "stop", "messages"],
)
def test_megabytes_are_too_large(edge, body):
    assert is_error(edge.generate(**body), 413, "request_too_large")


def test_knobs_of_other_servers_reach_no_engine(edge):
    knobs = {
        "n_discard": 5,
        "guided_decoding_backend": "none",
        "mm_processor_kwargs": {"a": 1},
        "base_url": "http://169.254.169.254",
        "api_base": "http://169.254.169.254",
    }
    answer = edge.generate(prompt="as ever", **knobs)
    assert answer.json()["generated_text"] == "as everas ever"
    assert answer.headers["x-ignored-params"] == ",".join(knobs)
    named = edge.generate(prompt="as ever", logits_processors=["os.system"])
    assert is_error(named, 400, "unsupported_parameter", "logits_processors")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chat_template", "{{ cycler.__init__.__globals__ }}"),
        ("best_of", 10_000),
        ("n", -1),
        ("echo", True),
        ("logprobs", 99),
        ("max_tokens", 3),
        ("temprature", 1),
        ("grammar", "root ::= 'a'"),
    ],
)
def test_what_would_change_the_answer_by_another_name_is_refused(edge, name, value):
    assert is_error(edge.generate(prompt="a", **{name: value}), 400, "unsupported_parameter", name)


def test_a_model_that_nobody_serves_is_refused_by_name(edge):
    for model in ("gpt-2", "../../etc/passwd", "echo\0", "Echo", " echo", "http://evil.example/model"):
        assert is_error(edge.generate(prompt="a", model=model), 404, "model_not_found", "model")


def test_stop_strings_that_begin_with_each_other_end_at_the_first_that_is_met(edge):
    answer = edge.generate(prompt="one two three four", stop=["two three four", "two thr", "two", "tw"]).json()
    assert (answer["generated_text"], answer["stop"]) == ("one two three four" + "one ", "tw")


@settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text("abc🙂é ", min_size=1, max_size=4), min_size=1, max_size=8),
    stops=st.lists(st.text("abc🙂é ", min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_text_is_cut_exactly_at_its_stop_however_it_is_split(running_edge, texts, stops):
    body = {"model": "scripted", "prompt": json.dumps({"script": {"texts": texts}}), "return_full_text": False}
    answer = running_edge.generate(**body, stop=stops).json()
    whole = "".join(texts)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    # Of those in one token's text the leftmost counts; a stop that is complete earlier counts before them.
    assert answer["generated_text"] in {whole[:end] for end in ends} | ({whole} if not ends else set())
    assert (answer["stop"] in stops) is bool(ends)
