"""A thought is closed when it has had its budget, wherever it began, and what is said behind it goes on."""

import numpy as np
import pytest

from gateway.engine import Choice, EngineError
from gateway_hf.constrain.thought_guide import ThoughtBounds, ThoughtGuide
from gateway_hf.sampling.terms import Terms

EOS, WIDTH = 256, 257
OPENS, CLOSE = ("<think>", "<thinking>"), "</think>"


@pytest.fixture
def bound(compiler, by_bytes):
    """Begin an answer whose thoughts are bound, and which is held to one of `options` behind them."""

    def begin(budget, options=(), *, is_thinking=False, forcing=True):
        terms = Terms(limit=99, eos_ids=frozenset({EOS}))
        guide = compiler.guide(compiler.compile(Choice(options)), terms, CLOSE) if options else None
        bounds = ThoughtBounds(OPENS, CLOSE, tuple(CLOSE.encode()), budget, is_thinking)
        return ThoughtGuide(bounds, by_bytes, guide, forcing=forcing)

    return begin


def say(guide, text):
    for byte in text.encode():
        assert not guide.forced
        guide.take(byte)


def test_the_mark_is_forced_once_the_budget_is_spent(bound):
    one = bound(3)
    say(one, "free <think>abc")
    assert bytes(one.forced) == CLOSE.encode()
    assert one.draft([1], most=4) == list(b"</th")
    assert bytes(one.take_forced(3)) == b"</t"
    assert bytes(one.take_forced(99)) == b"hink>"
    say(one, "the answer is as long as it likes")
    assert one.draft([1, 2], most=4) == [1, 2]
    assert one.bias(WIDTH, may_end=True) is None
    assert not one.is_done


def test_all_thoughts_of_an_answer_have_one_budget(bound):
    one = bound(12)
    say(one, "<think>ab</think>c<thinking>de")
    assert bytes(one.take_forced(99)) == CLOSE.encode()
    say(one, "f")
    for byte in b"<think>":
        one.take(byte)
    assert bytes(one.forced) == CLOSE.encode()


@pytest.mark.parametrize("budget", [0, 2])
def test_a_thought_that_the_template_opened_is_counted_from_the_first_token(bound, budget):
    one = bound(budget, is_thinking=True)
    say(one, "a" * budget)
    assert bytes(one.take_forced(99)) == CLOSE.encode()


def test_a_character_is_brought_to_its_end(bound):
    one = bound(2, is_thinking=True)
    say(one, "a🙂")
    assert one.forced
    endless = bound(1, is_thinking=True)
    for _ in range(4):
        assert not endless.forced
        endless.take(0xF0)  # the first byte of a character that never ends
    assert endless.forced


def test_a_constraint_begins_behind_the_mark(bound):
    one = bound(1, ("yes", "no"), is_thinking=True)
    say(one, "a")
    assert bytes(one.take_forced(99)) == CLOSE.encode()
    allowed = np.flatnonzero(one.bias(WIDTH, may_end=True) == 0)
    assert set(allowed) == {ord("y"), ord("n")}
    one.take(ord("y"))
    assert bytes(one.forced) == b"es"
    assert one.is_done


def test_what_a_constraint_forces_comes_with_the_mark(bound):
    one = bound(0, ("yes",), is_thinking=True)
    assert bytes(one.take_forced(99)) == b"</think>yes"
    assert one.is_done


def test_the_text_of_a_constraint_has_no_marks(bound):
    one = bound(0, ("<think>so", "<think>no"), is_thinking=True)
    assert bytes(one.take_forced(99)) == b"</think><think>"
    one.take(ord("n"))
    assert bytes(one.forced) == b"o"


def test_the_mark_is_drawn_where_nothing_is_taken_at_once(bound):
    one = bound(0, is_thinking=True, forcing=False)
    assert one.take_forced(99) == []
    for byte in CLOSE.encode():
        assert one.forced[0] == byte
        one.take(byte)
    assert not one.forced


def test_no_other_token_is_taken_in_place_of_the_mark(bound):
    with pytest.raises(EngineError, match="another token"):
        bound(0, is_thinking=True).take(ord("a"))
