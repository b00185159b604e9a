"""One answer's way through its grammar."""

import numpy as np
import pytest

from gateway.engine import Choice, EngineError, InvalidRequest, JsonSchema, Regex
from gateway_hf.sampling.terms import Terms

WIDTH, EOS = 257, 256


@pytest.fixture
def guide(compiler):
    """Begin an answer that is held to a constraint; further words are of its terms."""

    def begin(constraint, after=None, **terms):
        settled = Terms(limit=99, **({"eos_ids": frozenset({EOS})} | terms))
        return compiler.guide(compiler.compile(constraint), settled, after)

    return begin


def _allowed(guide, *, may_end=True, width=WIDTH):
    bias = guide.bias(width, may_end=may_end)
    assert bias.shape == (width,)
    assert set(bias[bias != 0]) <= {-np.inf}
    return {int(token) for token in np.flatnonzero(bias == 0)}


def _take(guide, text):
    for byte in text.encode():
        guide.take(byte)


def test_what_may_follow_changes_with_what_was_said(guide):
    one = guide(Choice(("ab", "a", "c")))
    assert _allowed(one) == {ord("a"), ord("c")}
    _take(one, "a")
    assert _allowed(one) == {ord("b"), EOS}
    assert not one.is_done
    _take(one, "b")
    assert _allowed(one) == {EOS}
    assert one.is_done


def test_two_answers_of_one_grammar_do_not_touch(compiler):
    compiled = compiler.compile(Choice(("ab", "cd")))
    one, other = (compiler.guide(compiled, Terms(limit=9)) for _ in range(2))
    _take(one, "a")
    assert _allowed(other) == {ord("a"), ord("c")}


def test_logits_of_no_token_are_ruled_out(guide):
    assert _allowed(guide(Regex("[ab]")), width=300) == {ord("a"), ord("b")}
    assert _allowed(guide(Regex("[ab]")), width=98) == {ord("a")}


def test_a_stop_token_may_end_a_complete_answer(guide):
    one = guide(Regex("a+"), stop_token_ids=frozenset({ord("z")}))
    _take(one, "a")
    assert _allowed(one) == {ord("a"), ord("z"), EOS}


def test_before_min_tokens_nothing_ends(guide):
    one = guide(Regex("a{2,3}"), stop_token_ids=frozenset({ord("z")}))
    _take(one, "aa")
    assert _allowed(one, may_end=False) == {ord("a")}
    _take(one, "a")
    with pytest.raises(InvalidRequest, match="min_tokens") as refused:
        one.bias(WIDTH, may_end=False)
    assert refused.value.param == "min_tokens"


def test_an_end_that_is_ignored_comes_when_nothing_else_can(guide):
    one = guide(Regex("a{1,2}"), eos_ids=frozenset())
    _take(one, "a")
    assert _allowed(one) == {ord("a")}
    _take(one, "a")
    assert _allowed(one) == {EOS}


def test_a_token_that_cannot_follow_is_an_error(guide):
    one = guide(Choice(("a", "b")))
    with pytest.raises(EngineError, match="cannot be followed") as refused:
        _take(one, "c")
    assert refused.value.param == "choice"
    with pytest.raises(EngineError, match="cannot be followed"):
        one.bias(WIDTH, may_end=True)


def test_what_must_follow_is_known(guide):
    one = guide(JsonSchema({"type": "object", "properties": {"name": {"type": "null"}}, "required": ["name"]}))
    assert bytes(one.forced) == b'{"name": null'
    assert one.draft([1], most=3) == list(b'{"n')
    one.take(ord("{"))
    assert bytes(one.take_forced(7)) == b'"name":'
    assert bytes(one.take_forced(99)) == b" null"
    assert _allowed(one) == {ord(","), ord("}")}
    _take(one, "}")
    assert one.is_done
    assert one.take_forced(99) == []


def test_another_token_than_the_one_that_must_follow_is_an_error(guide):
    with pytest.raises(EngineError, match="must follow"):
        _take(guide(Choice(("ab",))), "b")


def test_a_draft_is_cut_where_the_grammar_has_no_way(guide):
    one = guide(Regex("[ab]+c"))
    assert one.draft(list(b"abbx"), most=4) == list(b"abb")
    assert one.draft([], most=4) == []
    assert _allowed(one) == {ord("a"), ord("b")}


def test_where_tokens_are_banned_each_one_is_drawn(guide):
    one = guide(Choice(("yes",)), bad_words=((5,),))
    assert not one.forced
    assert _allowed(one) == {ord("y")}


def test_a_constraint_begins_after_a_text(guide):
    one = guide(Choice(("yes",)), after="</think>")
    assert one.is_free
    assert _allowed(one) == set(range(256))
    assert not one.forced
    assert one.draft([1, 2], most=4) == [1, 2]
    _take(one, "<</thin</think")
    assert one.is_free
    _take(one, ">")
    assert not one.is_free
    assert one.began == len("<</thin</think>")
    assert bytes(one.take_forced(9)) == b"yes"
    assert one.is_done


def test_a_constraint_that_takes_too_long_is_given_up(guide, monkeypatch):
    one = guide(Regex("a+"))
    monkeypatch.setattr("gateway_hf.constrain.guide._SECONDS", -1.0)
    with pytest.raises(EngineError, match="too long"):
        one.bias(WIDTH, may_end=True)
