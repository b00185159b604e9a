"""Tokens become text, thoughts and calls; every token is counted once, and the reason of the end says what came."""

import pytest

from gateway.engine import Delta, Finished, FinishReason, TokenDelta, Tool, ToolDelta, Usage
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.sequence import Alternative, Drawn
from gateway_hf.text.writer import TokenName
from gateway_hf.tools.forms import GENERIC, NO_CALLS
from gateway_hf.tools.parser import AnswerReading
from gateway_hf.tools.reading_writer import ReadingWriter
from gateway_hf.tools.thoughts import THOUGHT_FORMS

THINKS = THOUGHT_FORMS[1]
TOOLS = {"weather": Tool("weather")}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
EOS = 0


class Letters:
    """A token is a character, by its code."""

    def feed(self, token):
        return chr(token)

    def flush(self):
        return ""


def write(text, *, ends=True, reading=None, logprobs=False, **terms):
    reading = reading or AnswerReading(GENERIC, THINKS, TOOLS)
    terms = Terms(**{"limit": 10_000, "eos_ids": frozenset({EOS}), **terms})
    writer = ReadingWriter(3, terms, Letters(), lambda token: TokenName(chr(token)), reading)
    events = []
    for token in [*map(ord, text), *([EOS] if ends else [])]:
        events += writer.write(Drawn(token, (Alternative(token, -1.0),) if logprobs else ()))
        if isinstance(events[-1], Finished):
            break
    return events


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Delta))


def arguments_of(events):
    return "".join(event.arguments for event in events if isinstance(event, ToolDelta))


def tokens_of(events):
    return sum(event.tokens for event in events if isinstance(event, Delta | ToolDelta))


def test_a_call_ends_the_answer_as_one():
    events = write("Hm. " + CALL)
    assert (text_of(events), arguments_of(events)) == ("Hm.", '{"city": "Paris"}')
    assert events[-1] == Finished(FinishReason.TOOL_CALLS, Usage(3, 5 + len(CALL)))
    assert tokens_of(events) == 5 + len(CALL)


def test_text_ends_the_answer_as_ever():
    events = write("Hm. ")
    assert events[-1] == Finished(FinishReason.STOP, Usage(3, 5))
    assert text_of(events) == "Hm. "


@pytest.mark.parametrize("held", [False, True])
def test_an_answer_that_is_cut_in_a_call_says_so(held):
    cut = CALL[:50]
    events = write(cut, limit=50, reading=AnswerReading(GENERIC, None, TOOLS, is_held=held))
    assert events[-1] == Finished(FinishReason.LENGTH, Usage(3, 50))
    assert text_of(events) == ("" if held else cut)
    assert arguments_of(events) == ('{"cit' if held else "")


def test_a_whole_call_before_the_cut_is_a_call():
    events = write(CALL + "<tool_call>", limit=len(CALL) + 5)
    assert (arguments_of(events), events[-1].reason) == ('{"city": "Paris"}', FinishReason.LENGTH)


def test_thoughts_are_counted_with_their_marks():
    events = write("<think>so</think>Yes.")
    assert (text_of(events), "".join(event.reasoning for event in events[:-1])) == ("Yes.", "so")
    assert events[-1].usage == Usage(3, 22, 0, 11)


def test_what_the_prompt_opened_is_counted_from_the_first_token():
    events = write("so</think>Yes.", reading=AnswerReading(NO_CALLS, THINKS, is_thinking=True))
    assert events[-1].usage == Usage(3, 15, 0, 10)


def test_a_stop_string_ends_text():
    events = write("one. two", stop=(". t",))
    assert text_of(events) == "one"
    assert events[-1] == Finished(FinishReason.STOP, Usage(3, 6), ". t")


def test_a_stop_string_is_not_looked_for_in_calls_and_thoughts():
    events = write("<think>Paris</think>" + CALL, stop=("Paris", "name"))
    assert arguments_of(events) == '{"city": "Paris"}'
    assert events[-1].reason is FinishReason.TOOL_CALLS


def test_what_may_become_a_stop_string_comes_before_the_call():
    events = write("Paris, Fra" + CALL, stop=("France",))
    assert text_of(events) == "Paris, Fra"
    assert [type(event) for event in events if event != Delta("")].index(ToolDelta) == len("Paris, ") + 1


def test_a_stop_string_in_what_was_held_back_is_met_at_the_end():
    events = write("<tool_call> stop", stop=("stop",))
    assert text_of(events) == "<tool_call> "
    assert events[-1].stop == "stop"


def test_a_shown_stop_string_is_shown():
    assert text_of(write("one. two", stop=(". t",), include_stop_str_in_output=True)) == "one. t"


def test_a_stop_string_waits_for_the_least_tokens():
    assert text_of(write("aXbXc", stop=("X",), min_tokens=2)) == "aXb"


def test_a_stop_token_is_named():
    events = write(CALL + "!", stop_token_ids=frozenset({ord("!")}))
    assert (events[-1].reason, events[-1].stop) == (FinishReason.TOOL_CALLS, ord("!"))


def test_every_token_keeps_its_log_probability():
    events = write("Hm. " + CALL, logprobs=True)
    told = [item.id for event in events if isinstance(event, Delta) for item in event.logprobs]
    assert "".join(map(chr, told)) == "Hm. " + CALL


def test_the_ids_of_all_tokens_are_told():
    events = write("Hm. " + CALL, token_ids=True)
    told = [number for event in events if isinstance(event, TokenDelta) for number in event.ids]
    assert told == [*map(ord, "Hm. " + CALL), EOS]
