"""Only what must be the same answer has the same key, and nobody gets another caller's."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import structs

from gateway.cache import CachePolicy, cache_policy, key_of
from gateway.engine import (
    Chat,
    Choice,
    Completion,
    Grammar,
    JsonObject,
    JsonSchema,
    Message,
    Regex,
    Sampling,
    Text,
    Tokens,
    Tool,
)
from tests.unit.cache.conftest import CARD, asked

GREEDY = Sampling(temperature=0.0)
texts = st.text(max_size=8)


def key(request=None, card=CARD, caller="a"):
    return key_of(request or asked(), card, caller)


@pytest.mark.parametrize(
    "change",
    [{"id": "2"}, {"trace": "00-1"}, {"timeout": 3.0}, {"priority": 5}, {"model": "alias"}],
    ids=str,
)
def test_what_says_nothing_of_the_answer_is_no_part_of_it(change):
    assert key(structs.replace(asked(), **change)) == key()


CHANGES = [
    {"prompt": Completion("ho")},
    {"prompt": Completion("hi", add_special=False)},
    {"prompt": Tokens((1,))},
    {"prompt": Chat((Message("user", (Text("hi"),)),))},
    {"prompt": Chat((Message("user", (Text("h"), Text("i"))),))},
    {"prompt": Chat((Message("system", (Text("hi"),)),))},
    {"prompt": Chat((Message("user", (Text("hi"),)),), (Tool("t"),))},
    {"prompt": Chat((Message("user", (Text("hi"),)),), (Tool("t"),), "required")},
    {"prompt": Chat((Message("user", (Text("hi"),)),), continue_final=True)},
    {"prompt": Chat((Message("user", (Text("hi"),)),), template_arguments={"a": 1})},
    {"truncate": 1},
    {"truncate": 1, "truncation_side": "right"},
    {"salt": "s"},
    {"sampling": Sampling(temperature=0.0, seed=1)},
    {"sampling": Sampling(temperature=0.0, max_tokens=5)},
    {"sampling": Sampling(temperature=0.0, max_length=5)},
    {"sampling": Sampling(temperature=0.0, stop=("a", "b"))},
    {"sampling": Sampling(temperature=0.0, stop=("ab",))},
    {"sampling": Sampling(temperature=0.0, logprobs=0)},
    {"sampling": Sampling(temperature=0.0, logprobs=1)},
    {"sampling": Sampling(temperature=1.0, seed=1)},
    {"defaults": Sampling(max_length=5, top_k=3)},
    {"constraint": Regex("a")},
    {"constraint": Grammar("a")},
    {"constraint": JsonObject()},
    {"constraint": JsonSchema({})},
    {"constraint": Choice(("a",))},
    {"constraint": JsonSchema({"properties": {"a": {}, "b": {}}})},
    {"constraint": JsonSchema({"properties": {"b": {}, "a": {}}})},
]


def test_all_that_may_change_the_answer_changes_the_key():
    keys = {key(), *[key(structs.replace(asked(), **change)) for change in CHANGES]}
    keys |= {key(card=structs.replace(CARD, **change)) for change in ({"name": "n"}, {"fingerprint": "g"})}
    keys |= {key(card=structs.replace(CARD, defaults=Sampling(top_p=0.5))), key(caller="b")}
    assert None not in keys
    assert len(keys) == len(CHANGES) + 5


def test_a_default_is_the_same_whoever_says_it():
    plain = asked(sampling=Sampling())
    said = key(structs.replace(plain, sampling=Sampling(temperature=0.0, top_p=0.5)))
    by_gateway = key(structs.replace(plain, defaults=Sampling(temperature=0.0, top_p=0.5)))
    by_model = key(plain, structs.replace(CARD, defaults=Sampling(temperature=0.0, top_p=0.5)))
    assert said == by_gateway == by_model is not None


def test_what_the_request_says_wins_over_the_defaults():
    defaults = Sampling(temperature=0.7, max_length=9)
    assert key(asked(sampling=Sampling(temperature=0.0, max_tokens=5), defaults=defaults)) == key(
        asked(sampling=Sampling(temperature=0.0, max_tokens=5))
    )


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.1), Sampling(temperature=1.0, top_k=1)], ids=str
)
def test_what_need_not_be_the_same_twice_has_no_key(sampling):
    assert key(asked(sampling=sampling)) is None


def test_nor_has_a_model_that_does_not_say_what_it_is():
    assert key(card=structs.replace(CARD, fingerprint="")) is None


@given(texts, texts, texts, texts)
@example("a", "bc", "ab", "c")
@example("\u0131", "\u0130", "\u0131\u0130", "")
@example("\u00e9", "x", "e\u0301", "x")
@example("\U0001f600", "", "\ud83d".encode("utf-16", "surrogatepass").hex(), "")
@example("a\x00", "b", "a", "\x00b")
@example("\u212b", "x", "\u00c5", "x")
def test_two_callers_or_two_prompts_never_share(caller, prompt, other_caller, other_prompt):
    assume((caller, prompt) != (other_caller, other_prompt))
    assert key(asked(prompt), caller=caller) != key(asked(other_prompt), caller=other_caller)


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_messages_that_differ_only_in_where_they_are_cut_never_share(one, other):
    assume(one != other)
    first, second = (Chat(tuple(Message("user", (Text(text),)) for text in said)) for said in (one, other))
    assert key(structs.replace(asked(), prompt=first)) != key(structs.replace(asked(), prompt=second))


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        ("", CachePolicy.ANY),
        ("max-age=60", CachePolicy.ANY),
        ("no-transform", CachePolicy.ANY),
        ("no-cache", CachePolicy.REFRESH),
        ("max-age=0", CachePolicy.REFRESH),
        ("no-store", CachePolicy.NO_STORE),
        ("No-Cache , NO-STORE", CachePolicy.NO_STORE),
        ("x-no-store", CachePolicy.ANY),
    ],
)
def test_the_header_says_what_the_client_wishes(header, wish):
    assert cache_policy(header) is wish
