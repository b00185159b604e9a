import math

from gateway.engine import Delta, Finished, FinishReason, Usage
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.sequence import Alternative, Drawn
from gateway_hf.text.writer import LEAST_LOGPROB, TellingWriter, TokenName, Writer

_ALPHABET = "abcdefghij"
_EOS = 99


class _Letters:
    """Token n is the n-th letter; `held` of them are always kept back."""

    def __init__(self, held=0):
        self._held = held
        self._text = ""

    def feed(self, token):
        self._text += _ALPHABET[token]
        ready = len(self._text) - self._held
        shown, self._text = self._text[: max(ready, 0)], self._text[max(ready, 0) :]
        return shown

    def flush(self):
        rest, self._text = self._text, ""
        return rest


def _write(tokens, *, held=0, kind=Writer, **terms):
    terms = Terms(**{"limit": 100, "eos_ids": frozenset({_EOS}), **terms})
    writer = kind(3, terms, _Letters(held), lambda token: TokenName(f"<{token}>", bytes([token])))
    events = []
    for token in tokens:
        events += writer.write(token if isinstance(token, Drawn) else Drawn(token))
        if isinstance(events[-1], Finished):
            break
    return events


def _text(events):
    return "".join(event.text for event in events if isinstance(event, Delta))


def _tokens(events):
    return sum(event.tokens for event in events if isinstance(event, Delta))


def test_each_token_is_one_delta():
    assert _write([0, 1]) == [Delta("a"), Delta("b")]


def test_the_end_of_sequence_is_counted_and_not_shown():
    events = _write([0, 1, _EOS])
    assert events[-1] == Finished(FinishReason.STOP, Usage(3, 3), None)
    assert (_text(events), _tokens(events)) == ("ab", 3)


def test_a_stop_token_is_named_and_not_shown():
    events = _write([0, 5], stop_token_ids=frozenset({5}))
    assert events[-1] == Finished(FinishReason.STOP, Usage(3, 2), 5)
    assert _text(events) == "a"


def test_the_limit_ends_with_length():
    events = _write([0, 1, 2], limit=2)
    assert events[-1] == Finished(FinishReason.LENGTH, Usage(3, 2), None)
    assert _text(events) == "ab"


def test_text_that_was_held_back_comes_with_the_last_token():
    for tokens, limit in (([0, 1, 2, _EOS], 100), ([0, 1, 2], 3)):
        events = _write(tokens, held=2, limit=limit)
        assert _text(events) == "abc"
        assert _tokens(events) == len(tokens)


def test_a_stop_string_over_tokens_is_cut_and_named():
    events = _write([0, 1, 2, 3, 4], stop=("cd",))
    assert events[-1] == Finished(FinishReason.STOP, Usage(3, 4), "cd")
    assert (_text(events), _tokens(events)) == ("ab", 4)


def test_a_half_stop_string_is_shown_at_the_end():
    events = _write([0, 1, 2, _EOS], stop=("cd",))
    assert (_text(events), events[-1].stop) == ("abc", None)


def test_a_stop_string_that_only_the_held_text_completes_still_ends():
    events = _write([0, 1, 2, 3], held=1, stop=("cd",), limit=4)
    assert events[-1] == Finished(FinishReason.STOP, Usage(3, 4), "cd")
    assert _text(events) == "ab"


def test_stop_strings_do_not_end_before_the_least_tokens():
    events = _write([0, 1, 0, 1], stop=("b",), min_tokens=2)
    assert (_text(events), events[-1].usage.completion_tokens) == ("aba", 4)


def test_log_probabilities_come_with_their_token_and_are_numbers():
    drawn = Drawn(1, (Alternative(1, -0.5), Alternative(0, -0.1), Alternative(1, -math.inf)))
    (delta,) = _write([drawn])
    (own,) = delta.logprobs
    assert (own.id, own.text, own.logprob, own.raw) == (1, "<1>", -0.5, b"\x01")
    assert [top.logprob for top in own.top] == [-0.1, LEAST_LOGPROB]


def test_a_stop_string_is_shown_where_that_is_asked_for():
    events = _write([0, 1, 2, 3, 4], stop=("cd",), include_stop_str_in_output=True)
    assert (_text(events), events[-1].stop) == ("abcd", "cd")


def test_so_is_a_stop_token_with_its_log_probability():
    scored = Drawn(5, (Alternative(5, -0.5),))
    events = _write([0, scored], held=1, stop_token_ids=frozenset({5}), include_stop_str_in_output=True)
    assert (_text(events), _tokens(events), events[-1].stop) == ("af", 2, 5)
    assert [token.id for event in events[:-1] for token in event.logprobs] == [5]
    hidden = _write([0, scored], stop_token_ids=frozenset({5}))
    assert [event.logprobs for event in hidden[:-1]] == [(), ()]


def test_the_ids_of_all_tokens_are_told_the_ends_too():
    events = _write([0, 1, _EOS], held=1, kind=TellingWriter, token_ids=True)
    assert [event.ids for event in events[:-1]] == [(0,), (1,), (_EOS,)]
    plain = _write([0, 1, _EOS], held=1)
    assert [event.text for event in events[:-1]] == [event.text for event in plain[:-1]]
    assert events[-1] == plain[-1]
