"""n answers to one request: one prefill, one end each, and nothing left when the reader leaves."""

import asyncio
from collections import defaultdict
from contextlib import aclosing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.engine import (
    Completion,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateRequest,
    Overloaded,
    Sampling,
    Started,
    Usage,
)
from gateway.flow.fanout import add_up, fan_out
from gateway.testing.script import Fault, Script
from gateway.testing.scripted import ScriptedEngine, Settings
from tests.support.steps import cancelled_at

FINISHED = Finished(FinishReason.STOP, Usage(1, 2))
ANSWER = (Started(1), Delta("a"), Delta("b"), FINISHED)


def asked(seed=None):
    return GenerateRequest(id="ask", model="m", prompt=Completion("hi"), sampling=Sampling(seed=seed))


class Streams:
    """Generates a stream a request, as written; an error in it is raised, and a callable is called and awaited."""

    def __init__(self, *streams):
        self.streams = streams
        self.asked = []
        self.open = 0

    async def generate(self, request):
        stream = self.streams[len(self.asked)]
        self.asked.append(request)
        self.open += 1
        try:
            for event in stream:
                await asyncio.sleep(0)
                if isinstance(event, BaseException):
                    raise event
                if callable(event):
                    await event()
                else:
                    yield event
        finally:
            await asyncio.sleep(0)
            self.open -= 1


async def read(streams, n, seed=None):
    told = defaultdict(list)
    async with aclosing(fan_out(streams.generate, asked(seed), n)) as events:
        async for number, event in events:
            told[number].append(event)
    return told


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_every_choice_is_told_whole_and_in_order(n):
    told = await read(Streams(*[ANSWER] * n), n)
    assert told == {number: list(ANSWER) for number in range(n)}


async def test_each_choice_has_its_own_id_and_seed():
    streams = Streams(*[ANSWER] * 3)
    await read(streams, 3, seed=7)
    assert [(request.id, request.sampling.seed) for request in streams.asked] == [
        ("ask", 7),
        ("ask-1", 8),
        ("ask-2", 9),
    ]


async def test_without_a_seed_none_is_made_up():
    streams = Streams(*[ANSWER] * 2)
    await read(streams, 2)
    assert [request.sampling.seed for request in streams.asked] == [None, None]


async def test_the_last_seed_is_followed_by_the_first():
    streams = Streams(*[ANSWER] * 2)
    await read(streams, 2, seed=2**63 - 1)
    assert streams.asked[1].sampling.seed == -(2**63)


async def test_the_others_are_asked_for_when_the_first_has_started():
    prefill = asyncio.Event()
    streams = Streams([prefill.wait, *ANSWER], ANSWER, ANSWER)
    reading = asyncio.create_task(read(streams, 3))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(streams.asked) == 1
    prefill.set()
    await reading
    assert len(streams.asked) == 3


async def test_events_come_as_they_are_made_whatever_the_others_do():
    told, later = [], asyncio.Event()
    streams = Streams([Started(1), later.wait, FINISHED], ANSWER)
    async with aclosing(fan_out(streams.generate, asked(), 2)) as events:
        async for number, event in events:
            told.append((number, event))
            if (number, event) == (1, FINISHED):
                later.set()
    assert told[-1] == (0, FINISHED)


@pytest.mark.parametrize("n", [1, 3])
async def test_a_failure_before_the_first_start_is_raised(n):
    streams = Streams([Overloaded("full")])
    with pytest.raises(Overloaded):
        await read(streams, n)
    assert len(streams.asked) == 1
    assert streams.open == 0


@pytest.mark.parametrize("n", [1, 3])
async def test_a_failure_after_it_is_that_choices_own(n):
    broken = EngineError("broken")
    told = await read(Streams([Started(1), Delta("a"), broken], *[ANSWER] * (n - 1)), n)
    assert told[0] == [Started(1), Delta("a"), broken]
    assert all(told[number] == list(ANSWER) for number in range(1, n))


async def test_so_is_that_of_another_choice_before_its_own_start():
    full = Overloaded("full")
    assert await read(Streams(ANSWER, [full]), 2) == {0: list(ANSWER), 1: [full]}


async def test_so_is_that_of_one_that_may_not_even_begin():
    streams = Streams(ANSWER)
    full = Overloaded("full")

    def generate(request):
        if request.id != "ask":
            raise full
        return streams.generate(request)

    async with aclosing(fan_out(generate, asked(), 2)) as events:
        assert (1, full) in [told async for told in events]


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_that_is_cut_off_ends_in_an_error(n):
    told = await read(Streams(ANSWER[:2], *[ANSWER] * (n - 1)), n)
    assert isinstance(told[0][-1], EngineError)


async def test_a_bug_is_raised_and_ends_them_all():
    streams = Streams(ANSWER, [Started(1), RuntimeError("bug")], [Started(1), asyncio.Event().wait])
    with pytest.raises(RuntimeError, match="bug"):
        await read(streams, 3)
    assert streams.open == 0


async def test_a_cancellation_that_nobody_asked_for_is_an_error_and_no_hang():
    told = await read(Streams(ANSWER, [Started(1), asyncio.CancelledError()]), 2)
    assert isinstance(told[1][-1], EngineError)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
async def test_closing_after_any_event_cancels_them_all(n, taken):
    streams = Streams(*[[*ANSWER[:3], asyncio.Event().wait]] * n)
    async with aclosing(fan_out(streams.generate, asked(), n)) as events:
        for _ in range(taken):
            await anext(events)
    assert streams.open == 0


async def test_a_reader_cancelled_at_any_step_leaves_nothing():
    before, streams, step = asyncio.all_tasks(), Streams(*[ANSWER] * 3), 0

    async def work():
        streams.asked.clear()
        await read(streams, 3)

    while await cancelled_at(step, work):
        assert streams.open == 0
        assert asyncio.all_tasks() == before
        step += 1
    assert step > 5


async def test_a_reader_that_lags_does_not_have_it_all_pile_up():
    streams = Streams(*[[Started(1), *[Delta("x")] * 1_000, FINISHED]] * 2)
    async with aclosing(fan_out(streams.generate, asked(), 2)) as events:
        await anext(events)
        for _ in range(5_000):
            await asyncio.sleep(0)
        assert streams.open == 2
        assert len([told async for told in events]) == 2 * 1_002 - 1


async def test_a_choice_of_a_whole_engine_that_breaks_leaves_the_others_whole():
    broken = msgspec.json.encode({"script": Script(fault=Fault.RAISE, after=1)}).decode()
    async with ScriptedEngine(Settings(places=3)) as engine:

        def generate(request):
            breaks = request.id == "ask-1"
            return engine.generate(structs.replace(request, prompt=Completion(broken)) if breaks else request)

        told = defaultdict(list)
        async with aclosing(fan_out(generate, asked(), 3)) as events:
            async for number, event in events:
                told[number].append(event)
    assert [type(told[number][-1]) for number in range(3)] == [Finished, EngineError, Finished]


usages = st.builds(Usage, st.just(9), st.integers(0, 50), st.integers(0, 9), st.integers(0, 50))


@given(st.lists(usages, min_size=1))
def test_the_prompt_is_counted_once_and_the_answers_are_added(each):
    total = add_up(each)
    assert total.prompt_tokens == 9
    assert total.completion_tokens == sum(usage.completion_tokens for usage in each)
    assert total.cached_tokens <= each[0].cached_tokens
    assert total.reasoning_tokens == sum(usage.reasoning_tokens for usage in each)


def test_the_first_prefill_counts_not_what_the_others_found_of_it():
    assert add_up([Usage(9, 1, 0), Usage(9, 2, 8)]) == Usage(9, 3, 0)


def test_no_usage_adds_up_to_none():
    assert add_up([]) == Usage(0, 0)
