"""A stream folds into one answer that says the same."""

import pytest

from gateway.engine import (
    Delta,
    EngineError,
    Finished,
    FinishReason,
    Fold,
    Started,
    TokenLogprob,
    ToolCall,
    ToolDelta,
    UpstreamFailed,
    Usage,
    collect,
)

STARTED = Started(3, cached_tokens=1)
FINISHED = Finished(FinishReason.STOP, Usage(3, 2, 1), stop="\n")
LIKELY, LIKELIER = TokenLogprob(1, "a", -0.5), TokenLogprob(2, "b", -0.1)


async def stream(*events):
    for event in events:
        if isinstance(event, Exception):
            raise event
        yield event


async def test_text_reasoning_and_logprobs_are_joined_in_order():
    answer = await collect(
        stream(
            STARTED,
            Delta("a", reasoning="x", logprobs=(LIKELY,)),
            Delta("b", reasoning="y", logprobs=(LIKELIER,)),
            FINISHED,
        )
    )
    assert (answer.text, answer.reasoning, answer.logprobs) == ("ab", "xy", (LIKELY, LIKELIER))
    assert (answer.started, answer.finished) == (STARTED, FINISHED)


async def test_pieces_of_a_call_are_joined_by_their_index():
    answer = await collect(
        stream(
            STARTED,
            ToolDelta(1, id="b", name="time"),
            ToolDelta(0, '{"city":', id="a", name="weather"),
            ToolDelta(1, "{}"),
            ToolDelta(0, '"Paris"}'),
            FINISHED,
        )
    )
    assert answer.tool_calls == (ToolCall("a", "weather", '{"city":"Paris"}'), ToolCall("b", "time", "{}"))


@pytest.mark.parametrize("events", [(), (STARTED,), (STARTED, Delta("a")), (Delta("a"), FINISHED)])
async def test_a_stream_that_was_cut_off_is_no_answer(events):
    with pytest.raises(EngineError, match="before it was finished"):
        await collect(stream(*events))


async def test_what_the_stream_raises_reaches_the_reader():
    with pytest.raises(UpstreamFailed, match="gone"):
        await collect(stream(STARTED, Delta("a"), UpstreamFailed("gone")))


def test_an_answer_without_deltas_is_empty():
    fold = Fold()
    fold.add(STARTED)
    fold.add(FINISHED)
    assert (fold.answer().text, fold.answer().tool_calls) == ("", ())
