"""Where a text is cut does not depend on how it was split."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import StopStrings

LETTERS = st.text("ab🙂\n", max_size=40)
STOPS = st.lists(st.text("ab🙂\n", min_size=1, max_size=5), min_size=1, max_size=4).map(tuple)


def feed(stops, pieces):
    """Return all that may be shown, and the stop string that was met."""
    matcher = StopStrings(stops)
    shown = "".join([matcher.feed(piece) for piece in pieces])
    return shown + matcher.flush(), matcher.found


def cut(stops, text):
    """Find the cut by looking at every end, one character after the other."""
    for end in range(len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            stop = max(met, key=len)
            return text[: end - len(stop)], stop
    return text, None


@st.composite
def split(draw, texts):
    text = draw(texts)
    places = draw(st.sets(st.integers(0, len(text))))
    borders = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


@given(STOPS, split(LETTERS))
def test_any_split_gives_the_same_cut_and_the_same_stop(stops, pieces):
    assert feed(stops, pieces) == cut(stops, "".join(pieces))


@given(STOPS, split(LETTERS))
def test_nothing_that_is_shown_is_taken_back(stops, pieces):
    matcher, whole, shown = StopStrings(stops), "", ""
    for piece in pieces:
        whole += piece
        shown += matcher.feed(piece)
        assert cut(stops, whole)[0].startswith(shown)


@given(STOPS, split(LETTERS))
def test_no_more_is_held_back_than_a_stop_string_can_need(stops, pieces):
    matcher, fed, shown = StopStrings(stops), 0, 0
    for piece in pieces:
        fed += len(piece)
        shown += len(matcher.feed(piece))
        if matcher.found is None:
            assert fed - shown < max(map(len, stops))


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "found"),
    [
        (("stop",), ["one st", "op two"], "one ", "stop"),
        (("stop",), ["one st", "ill"], "one still", None),
        (("aab",), ["aa", "ab"], "a", "aab"),
        (("bc", "abcd"), ["abcd"], "a", "bc"),
        (("b", "ab"), ["a", "b"], "", "ab"),
        (("\n\n",), ["a\n", "b\n", "\nc"], "a\nb", "\n\n"),
        (("👩‍🚀",), ["👩", "\u200d", "🚀"], "", "👩‍🚀"),
        ((), ["one ", "two"], "one two", None),
    ],
)
def test_examples(stops, pieces, shown, found):
    assert feed(stops, pieces) == (shown, found)


def test_after_the_stop_nothing_is_shown():
    matcher = StopStrings(("x",))
    assert matcher.feed("axb") == "a"
    assert matcher.feed("more") == ""
    assert matcher.flush() == ""


def test_what_was_flushed_is_not_shown_again():
    matcher = StopStrings(("xyz",))
    matcher.feed("axy")
    assert (matcher.flush(), matcher.flush()) == ("xy", "")


def test_ten_megabytes_against_nested_prefixes_take_linear_time():
    stops = tuple("a" * length + "b" for length in (511, 127, 31, 7))
    text = ("a" * 6 + "c") * 1_500_000
    started = time.perf_counter()
    assert feed(stops, [text[at : at + 4096] for at in range(0, len(text), 4096)]) == (text, None)
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("period", ["a" * 510 + "c", "a", "aab"])
def test_a_token_at_a_time_against_nested_prefixes_takes_linear_time(period):
    stops = ("a" * 511 + "b", "a" * 255 + "ba", "a" * 64 + "bb", "aabaabaac")
    text = (period * 100_000)[:100_000]
    started = time.perf_counter()
    assert feed(stops, [text[at : at + 4] for at in range(0, len(text), 4)])[0]
    assert time.perf_counter() - started < 20


@given(STOPS, split(LETTERS))
def test_a_stop_string_may_be_shown(stops, pieces):
    shown, met = cut(stops, "".join(pieces))
    matcher = StopStrings(stops, shown=True)
    assert "".join([matcher.feed(piece) for piece in pieces]) + matcher.flush() == shown + (met or "")
    assert matcher.found == met
