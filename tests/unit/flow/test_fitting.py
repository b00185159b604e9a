"""A prompt is made shorter until it fits."""

import pytest
from msgspec import structs

from gateway.engine import Completion, ContextTooLong, Delta, EngineError, Finished, FinishReason, Started, Usage
from gateway.engine import GenerateRequest as Request
from gateway.flow.fitting import fitted

ASKED = Request(id="1", model="m", prompt=Completion("abcdef"))


class Narrow:
    """Reads so many characters; the answer breaks off with `error`, where there is one."""

    def __init__(self, room, error=None):
        self.room, self.error, self.read = room, error, []

    async def generate(self, request):
        text = request.prompt.text
        self.read.append(text)
        if len(text) > self.room:
            raise ContextTooLong(f"{len(text)}")
        yield Started(len(text))
        if self.error is not None:
            raise self.error
        yield Delta(text)
        yield Finished(FinishReason.STOP, Usage(len(text), 1))


def shorter(request):
    text = request.prompt.text[2:]
    return structs.replace(request, prompt=Completion(text)) if text else None


async def told(engine, shorten):
    return [event async for event in fitted(engine.generate, ASKED, shorten)]


@pytest.mark.parametrize(("room", "read"), [(9, ["abcdef"]), (4, ["abcdef", "cdef"]), (3, ["abcdef", "cdef", "ef"])])
async def test_it_is_read_again_and_again_until_it_fits(room, read):
    engine = Narrow(room)
    events = await told(engine, shorter)
    assert engine.read == read
    assert [type(event) for event in events] == [Started, Delta, Finished]
    assert events[1].text == read[-1]


async def test_where_nothing_is_left_to_leave_out_it_is_refused():
    engine = Narrow(1)
    with pytest.raises(ContextTooLong, match="2"):
        await told(engine, shorter)
    assert engine.read == ["abcdef", "cdef", "ef"]


async def test_without_a_word_for_it_nothing_is_left_out():
    engine = Narrow(4)
    with pytest.raises(ContextTooLong):
        await told(engine, None)
    assert engine.read == ["abcdef"]


@pytest.mark.parametrize("error", [ContextTooLong("late"), EngineError("other")])
async def test_an_answer_that_has_begun_is_not_begun_again(error):
    engine = Narrow(9, error)
    with pytest.raises(type(error), match=error.message):
        await told(engine, shorter)
    assert engine.read == ["abcdef"]


async def test_leaving_the_events_closes_the_engines():
    closed = []

    class Slow(Narrow):
        async def generate(self, request):
            try:
                async for event in super().generate(request):
                    yield event
            finally:
                closed.append(request.prompt.text)

    events = fitted(Slow(4).generate, ASKED, shorter)
    assert type(await anext(events)) is Started
    await events.aclose()
    assert closed == ["abcdef", "cdef"]
