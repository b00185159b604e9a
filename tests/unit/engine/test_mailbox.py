"""Letters arrive in order, joined when the reader lags, and an error comes after what was written before it."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import (
    Delta,
    EngineError,
    Finished,
    FinishReason,
    Mailbox,
    Post,
    Started,
    TokenDelta,
    TokenLogprob,
    ToolDelta,
    Usage,
    join,
)

FINISHED = Finished(FinishReason.STOP, Usage(1, 1))


async def read(mailbox):
    events = [await mailbox.get()]
    while not isinstance(events[-1], Finished):
        events.append(await mailbox.get())
    return events


async def test_a_reader_that_lags_gets_its_deltas_joined():
    mailbox = Mailbox()
    for letter in (Started(1), Delta("a"), Delta("b", tokens=2), Delta("c"), FINISHED):
        mailbox.put(letter)
    assert await read(mailbox) == [Started(1), Delta("abc", tokens=4), FINISHED]


async def test_a_reader_that_keeps_up_gets_each_delta_as_it_was_put():
    mailbox, told = Mailbox(), [Delta("a"), Delta("b")]
    for letter in told:
        mailbox.put(letter)
        assert await mailbox.get() is letter


async def test_a_run_is_all_that_is_there_and_an_error_is_raised_by_the_next():
    mailbox = Mailbox()
    for letter in (Started(1), Delta("a"), Delta("b"), FINISHED, EngineError("no")):
        mailbox.put(letter)
    assert await mailbox.get_run() == [Started(1), Delta("ab", tokens=2), FINISHED]
    with pytest.raises(EngineError, match="no"):
        await mailbox.get_run()


async def test_deltas_are_not_joined_over_another_event():
    mailbox = Mailbox()
    letters = [Delta("a"), ToolDelta(0, "{}"), Delta("b"), ToolDelta(0, ""), FINISHED]
    for letter in letters:
        mailbox.put(letter)
    assert await read(mailbox) == letters


async def test_a_thought_behind_a_text_is_told_behind_it():
    mailbox = Mailbox()
    for letter in (Delta("", reasoning="a"), Delta("b"), Delta(""), Delta("", reasoning="c"), Delta("d"), FINISHED):
        mailbox.put(letter)
    assert await read(mailbox) == [
        Delta("b", tokens=3, reasoning="a"),
        Delta("d", tokens=2, reasoning="c"),
        FINISHED,
    ]


async def test_the_pieces_of_one_call_are_joined_and_those_of_two_are_not():
    mailbox = Mailbox()
    pieces = [ToolDelta(0, "", "c0", "f", tokens=1), ToolDelta(0, "{", tokens=1), ToolDelta(0, "}", tokens=2)]
    for letter in (Delta("a"), *pieces, ToolDelta(1, "{}", "c1", "g"), FINISHED):
        mailbox.put(letter)
    assert await read(mailbox) == [
        Delta("a"),
        ToolDelta(0, "{}", "c0", "f", tokens=4),
        ToolDelta(1, "{}", "c1", "g"),
        FINISHED,
    ]


async def test_an_error_comes_after_the_events_before_it():
    mailbox = Mailbox()
    for letter in (Delta("a"), Delta("b"), EngineError("broken")):
        mailbox.put(letter)
    assert await mailbox.get() == Delta("ab", tokens=2)
    with pytest.raises(EngineError, match="broken"):
        await mailbox.get()


async def test_a_waiting_reader_is_woken():
    mailbox = Mailbox()
    reader = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(Delta("a"))
    mailbox.put(Delta("b"))
    assert await reader == Delta("ab", tokens=2)


async def test_a_cancelled_reader_loses_no_letter():
    mailbox = Mailbox()
    reader = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(Delta("a"))
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await mailbox.get() == Delta("a")


def test_join_says_the_same():
    likely, likelier = TokenLogprob(1, "a", -0.5), TokenLogprob(2, "b", -0.1)
    run = (Delta("a", 1, "x", (likely,)), Delta("", 2), Delta("b", 1, "y", (likelier,)))
    assert join(run) == Delta("ab", 4, "xy", (likely, likelier))


deltas = st.builds(Delta, st.text(max_size=3), st.integers(0, 3), st.text(max_size=3))


@given(st.lists(deltas, min_size=1), st.data())
def test_any_way_of_reading_says_the_same(told, data):
    async def exchange():
        mailbox, heard = Mailbox(), []
        pending = list(told)
        while pending:
            many = data.draw(st.integers(1, len(pending)))
            for letter in pending[:many]:
                mailbox.put(letter)
            del pending[:many]
            heard.append(await mailbox.get())
        mailbox.put(FINISHED)
        return heard + (await read(mailbox))[:-1]

    assert join(asyncio.run(exchange())) == join(told)


def said(events):
    """What a stream says, event by event as it were written out: texts, thoughts, calls, tokens, ids."""
    told = []
    for event in events:
        pieces = (
            [(("call", event.index), event.arguments)]
            if isinstance(event, ToolDelta)
            else [(("thought",), event.reasoning), (("text",), event.text)]
        )
        for kind, text in pieces:
            if text and told and told[-1][0] == kind:
                told[-1] = (kind, told[-1][1] + text)
            elif text:
                told.append((kind, text))
    names = [(event.index, event.id, event.name) for event in events if isinstance(event, ToolDelta) and event.id]
    ids = [token for event in events if isinstance(event, TokenDelta) for token in event.ids]
    return told, names, ids, sum(event.tokens for event in events)


words = st.text("ab", max_size=2)
pieces = st.one_of(
    st.builds(Delta, words, st.integers(0, 2)),
    st.builds(Delta, st.just(""), st.integers(0, 2), words),
    st.builds(TokenDelta, words, st.just(1), ids=st.tuples(st.integers(0, 9))),
)
calls = st.lists(st.lists(words, max_size=4), max_size=3)


@given(st.lists(pieces), calls, st.lists(pieces), st.data())
def test_a_reader_that_lags_loses_nothing_of_calls_and_learns_all_in_order(before, made, behind, data):
    written = [
        ToolDelta(index, text, f"c{index}" if first else "", "f" if first else "", tokens=1)
        for index, call in enumerate(made)
        for first, text in [(True, ""), *((False, text) for text in call)]
    ]

    async def exchange():
        mailbox, heard = Mailbox(), []
        for letter in (*before, *written, *behind):
            mailbox.put(letter)
            if data.draw(st.booleans()):
                heard.append(await mailbox.get())
        mailbox.put(FINISHED)
        return heard + (await read(mailbox))[:-1]

    heard = asyncio.run(exchange())
    assert said(heard) == said([*before, *written, *behind])


class CountedLoop:
    def __init__(self, loop):
        self._loop = loop
        self.wake_ups = 0

    def call_soon_threadsafe(self, *arguments):
        self.wake_ups += 1
        self._loop.call_soon_threadsafe(*arguments)


async def test_a_step_for_the_whole_batch_is_one_wake_up():
    loop = CountedLoop(asyncio.get_running_loop())
    post, mailboxes = Post(loop), [Mailbox() for _ in range(32)]

    def steps():
        post.send([(mailbox, Started(1)) for mailbox in mailboxes])
        post.send([(mailbox, Delta("a")) for mailbox in mailboxes])
        post.send([(mailbox, FINISHED) for mailbox in mailboxes])
        post.send([])

    thread = threading.Thread(target=steps)
    thread.start()
    async with asyncio.timeout(20):
        heard = await asyncio.gather(*map(read, mailboxes))
    thread.join()
    assert heard == [[Started(1), Delta("a"), FINISHED]] * 32
    assert loop.wake_ups == 3


def test_a_closed_loop_has_no_readers_to_disturb():
    loop = asyncio.new_event_loop()
    post = Post(loop)
    loop.close()
    post.send([(Mailbox(), Delta("a"))])


async def test_the_ids_of_joined_deltas_are_all_of_theirs():
    mailbox = Mailbox()
    for letter in (
        Delta("", tokens=0),
        TokenDelta("a", ids=(1,)),
        TokenDelta("b", ids=(2, 3), tokens=2),
        Delta("c", 0),
    ):
        mailbox.put(letter)
    assert await mailbox.get() == TokenDelta("abc", tokens=3, ids=(1, 2, 3))
