"""Answers in the background: bounded, followed by several readers, ended together."""

import asyncio

import pytest

from gateway.background import DETACHED, Background
from gateway.engine import Delta, EngineError, Finished, FinishReason, Overloaded, Started, Usage

EVENTS = [Started(1), Delta("a"), Delta("b"), Finished(FinishReason.STOP, Usage(1, 2))]


async def read(made):
    return [event async for event in made.follow()]


@pytest.fixture
async def background():
    made = Background(lambda: 2, lambda: 2)
    yield made
    await made.aclose()


async def test_every_reader_gets_every_event_whenever_it_comes(background):
    made = background.reserve("a", "r1", "1")
    early = asyncio.create_task(read(made))
    made.add(EVENTS[0])
    await asyncio.sleep(0)
    middle = asyncio.create_task(read(made))
    for event in EVENTS[1:]:
        made.add(event)
        await asyncio.sleep(0)
    made.end(None)
    assert await early == await middle == await read(made) == [DETACHED, *EVENTS]


async def test_every_reader_is_told_the_error_behind_the_events(background):
    made = background.reserve("a", "r1", "1")
    made.add(EVENTS[0])
    made.end(error := EngineError("it broke", param="p"))
    for _ in range(2):
        events = made.follow()
        assert [await anext(events) for _ in range(2)] == [DETACHED, EVENTS[0]]
        with pytest.raises(EngineError, match="it broke") as raised:
            await anext(events)
        assert raised.value.param == "p"
        assert raised.value is not error
    assert error.__traceback__ is None


async def test_there_are_so_many_at_once_and_no_more(background):
    go = asyncio.Event()
    for name in ("r1", "r2"):
        background.reserve("a", name, name)
        background.start("a", name, go.wait())
    with pytest.raises(Overloaded, match="2 answers are made in the background"):
        background.reserve("b", "r3", "3")
    assert background.count == 2
    go.set()
    await background.wait()
    await asyncio.sleep(0)
    assert background.count == 0
    background.reserve("b", "r3", "3")
    background.release("b", "r3")
    assert background.find("b", "r3") is None


async def test_one_owner_does_not_take_all_the_room():
    background = Background(lambda: 4, lambda: 2)
    for name in ("r1", "r2"):
        background.reserve("a", name, name)
    with pytest.raises(Overloaded, match="2 answers are made in the background for this key"):
        background.reserve("a", "r3", "3")
    background.reserve("b", "r1", "1")
    background.release("a", "r1")
    background.reserve("a", "r3", "3")


async def test_callers_without_keys_share_all_the_room():
    background = Background(lambda: 3, lambda: 1)
    for name in ("r1", "r2", "r3"):
        background.reserve("", name, name)
    with pytest.raises(Overloaded, match="3 answers are made in the background already"):
        background.reserve("", "r4", "4")


async def test_an_owner_finds_its_own_only(background):
    made = background.reserve("a", "r1", "1")
    assert background.find("a", "r1") is made
    assert background.find("b", "r1") is None


async def test_all_are_ended_together_and_waited_for():
    background, ended = Background(lambda: 2, lambda: 2), []

    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # it stores how it ended
            ended.append(True)

    background.reserve("a", "r1", "1")
    background.start("a", "r1", work())
    await asyncio.sleep(0)
    await background.aclose()
    assert ended == [True]


async def test_an_answer_is_made_while_its_client_waits_or_while_none_does(background):
    assert not background.is_made("a", "r1")
    with background.attend("a", "r1"):
        assert background.is_made("a", "r1")
        assert not background.is_made("b", "r1")
        assert background.count == 0  # it takes no room of those in the background
    assert not background.is_made("a", "r1")
    background.reserve("a", "r2", "1")
    assert background.is_made("a", "r2")
    background.release("a", "r2")
    assert not background.is_made("a", "r2")
