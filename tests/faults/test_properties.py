"""Any bytes and any fields: an answer or the one error shape, and never a fault of ours."""

import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.observe import CANARY, is_error, post_json

BOUNDED = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@BOUNDED
@given(
    body=st.binary(max_size=300)
    | st.text(max_size=100).map(str.encode)
    | st.builds(lambda text: b'{"prompt":' + text, st.binary())
)
def test_any_bytes_get_an_answer_or_the_error_shape(running_edge, body):
    answer = post_json(running_edge, body)
    assert answer.status_code in {200, 400, 413, 415}
    if answer.status_code != 200:
        assert is_error(answer, answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
COUNT = st.integers(0, 40) | ANYTHING
SHARE = st.floats(0, 2) | ANYTHING
FIELDS = {
    "messages": st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant"]), "content": st.text()}),
        max_size=3,
    )
    | ANYTHING,
    "model": st.sampled_from(["echo", "default", "scripted"]) | ANYTHING,
    "stream": st.booleans(),
    "return_full_text": st.booleans(),
    "max_length": COUNT,
    "max_new_tokens": COUNT,
    "min_new_tokens": COUNT,
    "temperature": SHARE,
    "top_p": SHARE,
    "top_k": COUNT,
    "min_p": SHARE,
    "repetition_penalty": SHARE,
    "presence_penalty": SHARE,
    "frequency_penalty": SHARE,
    "logit_bias": st.dictionaries(st.integers(0, 9).map(str), SHARE, max_size=3) | ANYTHING,
    "seed": st.integers() | ANYTHING,
    "stop": st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=5) | ANYTHING,
    "stop_token_ids": st.lists(COUNT, max_size=3) | ANYTHING,
    # Where the end is ignored an answer fills the context; a bound on the tokens keeps this test short.
    "ignore_eos": st.just(value=False),
    "more": ANYTHING,
}


@BOUNDED
@given(body=st.fixed_dictionaries({}, optional={"prompt": st.text(min_size=1) | ANYTHING} | FIELDS))
def test_any_fields_get_an_answer_or_the_error_shape(running_edge, body):
    answer = post_json(running_edge, json.dumps(body))
    assert answer.status_code in {200, 400, 404}
    if answer.status_code != 200:
        assert is_error(answer, answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"])


def test_a_body_that_was_damaged_on_the_way_gets_an_answer_or_the_error_shape(edge):
    whole = json.dumps({"messages": [{"role": "user", "content": CANARY}], "stop": ["a", "b"], "seed": 5}).encode()
    chance = random.Random(7)  # noqa: S311 - no secret, the same at every run
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        assert post_json(edge, bytes(damaged)).status_code in {200, 400}
