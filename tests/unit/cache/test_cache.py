"""Who asks the same shares one generation, who asks again is told it again, and who leaves disturbs nobody."""

import asyncio
import itertools
from contextlib import aclosing, suppress

import pytest
from msgspec import structs

from gateway.cache import AnswerStore, Cache, CachePolicy, CacheStatus, MemoryAnswerStore
from gateway.engine import (
    Delta,
    Draining,
    EngineError,
    Finished,
    FinishReason,
    Overloaded,
    Started,
    TokenDelta,
    TokenLogprob,
    ToolDelta,
    Usage,
    collect,
)
from gateway.limits import RequestsExceeded
from tests.support.steps import cancelled_at
from tests.unit.cache.conftest import ANSWER, FINISHED, KEY, Source, read, turns, words

UNPREFILLED = (
    Started(3, 3),
    structs.replace(FINISHED, usage=Usage(3, 2, 3)),
)


async def test_the_first_to_ask_gets_the_events_as_they_are(cache):
    source = Source()
    assert await read(cache, source) == (CacheStatus.MISS, list(ANSWER))
    assert source.open == 0


async def test_who_asks_again_is_told_the_same_and_nothing_is_generated(cache):
    source = Source()
    await read(cache, source)
    status, events = await read(cache, source)
    assert (status, source.begun) == (CacheStatus.HIT, 1)
    assert events == [UNPREFILLED[0], Delta("ab", tokens=2), UNPREFILLED[1]]
    assert cache.counts.hits == cache.counts.misses == cache.counts.stores == 1
    assert cache.size > 0


async def test_a_hundred_at_once_run_one_generation(cache):
    source = Source()
    told = await asyncio.gather(*[read(cache, source) for _ in range(100)])
    assert source.begun == 1
    assert all(events == list(ANSWER) for _, events in told)
    assert [status for status, _ in told].count(CacheStatus.COALESCED) == 99
    assert (cache.counts.misses, cache.counts.coalesced) == (1, 99)


class SlowStore(MemoryAnswerStore):
    """Looks when it is let, and counts."""

    def __init__(self):
        super().__init__(1_000_000, 60)
        self.may_look = asyncio.Event()
        self.looks = 0

    async def get(self, key):
        self.looks += 1
        await self.may_look.wait()
        return await super().get(key)


async def test_all_who_ask_while_the_store_is_asked_wait_for_one_look():
    cache, source = Cache(store := SlowStore()), Source()
    reading = [asyncio.create_task(read(cache, source)) for _ in range(100)]
    await turns()
    store.may_look.set()
    assert [events for _, events in await asyncio.gather(*reading)] == [list(ANSWER)] * 100
    assert source.begun == store.looks == 1


@pytest.mark.parametrize("leavers", [1, 2])
async def test_who_leaves_while_the_store_is_asked_disturbs_nobody(leavers):
    cache, source = Cache(store := SlowStore()), Source()
    reading = [asyncio.create_task(read(cache, source)) for _ in range(3)]
    await turns()
    for task in reading[:leavers]:
        task.cancel()
    await turns()
    store.may_look.set()
    told = await asyncio.gather(*reading, return_exceptions=True)
    assert [events for _, events in told[leavers:]] == [list(ANSWER)] * (3 - leavers)
    assert source.begun == 1


async def test_if_all_leave_nothing_is_begun():
    cache, source = Cache(SlowStore()), Source()
    reading = [asyncio.create_task(read(cache, source)) for _ in range(3)]
    await turns()
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    assert cache.flights == source.begun == 0


async def test_other_keys_share_nothing(cache):
    source = Source()
    await asyncio.gather(*[read(cache, source, key=bytes([number]) * 32) for number in range(5)])
    assert source.begun == 5


async def test_who_comes_late_is_told_from_the_beginning(cache):
    gate = asyncio.Event()
    source = Source(*ANSWER[:3], gate.wait, FINISHED)
    async with aclosing(await cache.stream(KEY, source)) as leader:
        assert [await anext(leader) for _ in range(3)] == list(ANSWER[:3])
        async with aclosing(await cache.stream(KEY, source)) as late:
            assert [await anext(late) for _ in range(3)] == list(ANSWER[:3])
            gate.set()
            assert [await anext(late), await anext(leader)] == [FINISHED] * 2


async def test_who_reads_slowly_holds_up_nobody(cache):
    source = Source()
    async with aclosing(await cache.stream(KEY, source)) as slow:
        assert (await read(cache, source))[1] == list(ANSWER)
        assert [event async for event in slow] == list(ANSWER)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("read_first", [0, 2])
async def test_they_may_leave_in_any_order_and_the_last_ends_it(cache, order, read_first):
    source = Source(*ANSWER[:3], asyncio.Event().wait)
    replays = [await cache.stream(KEY, source) for _ in range(3)]
    for replay in replays:
        for _ in range(read_first):
            await anext(replay)
    for number in order[:2]:
        await replays[number].aclose()
    await turns()
    assert cache.flights == source.open == 1
    await replays[order[2]].aclose()
    assert cache.flights == source.open == 0
    assert cache.counts.stores == 0


async def test_who_led_may_leave_and_the_others_get_it_all(cache):
    gate = asyncio.Event()
    source = Source(*ANSWER[:2], gate.wait, *ANSWER[2:])
    leader = await cache.stream(KEY, source)
    others = [asyncio.create_task(read(cache, source)) for _ in range(2)]
    await anext(leader)
    await turns()
    await leader.aclose()
    gate.set()
    assert [events for _, events in await asyncio.gather(*others)] == [list(ANSWER)] * 2
    assert source.begun == 1


async def test_to_leave_twice_counts_once(cache):
    source = Source(Started(3), asyncio.Event().wait)
    one, two = [await cache.stream(KEY, source) for _ in range(2)]
    for _ in range(3):
        await one.aclose()
    await turns()
    assert cache.flights == 1
    await two.aclose()


async def test_who_asks_while_the_last_one_leaves_begins_anew(cache):
    stuck = asyncio.Event()

    class Reluctant(Source):
        async def __call__(self, work):
            try:
                async for event in super().__call__(work):
                    yield event
            finally:
                await stuck.wait()

    first = await cache.stream(KEY, Reluctant(Started(3), asyncio.Event().wait))
    await anext(first)
    leaving = asyncio.create_task(first.aclose())
    await turns()
    assert (await read(cache, Source()))[0] is CacheStatus.MISS
    stuck.set()
    await leaving


async def test_nobody_waits_for_one_who_was_cancelled_at_any_step(cache):
    source, step = Source(), 0

    async def work():
        await read(cache, source, key=step.to_bytes(32, "big"))

    while await cancelled_at(step, work):
        await turns()
        assert cache.flights == source.open == 0
        step += 1
    assert step > 5


async def test_a_cancelled_reader_disturbs_no_other(cache):
    for step in range(12):
        source, key = Source(), step.to_bytes(32, "big")
        other = asyncio.create_task(read(cache, source, key=key))
        await cancelled_at(step, lambda source=source, key=key: read(cache, source, key=key))
        assert (await other)[1] == list(ANSWER)
        assert source.begun == 1


async def test_an_error_reaches_all_who_wait_and_is_not_kept(cache):
    source = Source(Started(3), Delta("a"), Overloaded("full", retry_after=7))
    told = await asyncio.gather(*[read(cache, source) for _ in range(5)], return_exceptions=True)
    assert [(type(error), error.retry_after) for error in told] == [(Overloaded, 7)] * 5
    assert source.begun == 1
    await read(cache, source := Source())
    assert source.begun == cache.counts.stores == 1


async def test_each_gets_an_error_of_its_own_to_word(cache):
    source = Source(EngineError("max_tokens", param="max_tokens"))
    one, two = await asyncio.gather(*[read(cache, source) for _ in range(2)], return_exceptions=True)
    one.message = one.param = "reworded"
    assert (two.message, two.param) == ("max_tokens", "max_tokens")


async def test_an_error_that_is_made_of_more_than_its_message_is_whole(cache):
    with pytest.raises(RequestsExceeded, match="slowly") as found:
        await read(cache, Source(RequestsExceeded("slowly", retry_after=3)))
    assert found.value.headers["retry-after"] == "3"


async def test_a_bug_reaches_them_too(cache):
    with pytest.raises(ZeroDivisionError):
        await read(cache, Source(ZeroDivisionError()))


async def test_a_cancellation_that_nobody_asked_for_is_an_error_and_no_hang(cache):
    with pytest.raises(EngineError, match="cancelled"):
        await read(cache, Source(asyncio.CancelledError()))


@pytest.mark.parametrize(
    "answer",
    [
        (*ANSWER[:3],),
        (*ANSWER[:3], Finished(FinishReason.DEADLINE, Usage(3, 2))),
        (*ANSWER, EngineError("broke while it ended")),
        (FINISHED,),
    ],
    ids=["cut off", "out of time", "broken at its end", "never started"],
)
async def test_what_is_not_whole_is_never_kept(cache, answer):
    source = Source(*answer)
    for _ in range(2):
        with suppress(EngineError):
            await read(cache, source)
    assert source.begun == 2
    assert cache.counts.stores == 0


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS])
async def test_every_end_of_its_own_is_kept_as_it_is(cache, reason):
    source = Source(Started(3), Delta("a"), Finished(reason, Usage(3, 1), "\n"))
    await read(cache, source)
    _, events = await read(cache, source)
    assert events[-1] == Finished(reason, Usage(3, 1, 3), "\n")


async def test_an_answer_told_again_says_all_that_it_said(cache):
    logprobs = [TokenLogprob(i, str(i), -0.5, (TokenLogprob(i, str(i), -0.5),)) for i in range(40)]
    deltas = [TokenDelta(str(i), 1, f"r{i}", (logprobs[i],), (i,)) for i in range(40)]
    calls = [ToolDelta(0, "{", "c", "f", 1), ToolDelta(0, "}", tokens=1)]
    started = Started(3, prompt_logprobs=tuple(logprobs), prompt_ids=(7, 8, 9))
    source = Source(started, *deltas, *calls, Delta("z"), FINISHED)
    first = await collect(await cache.stream(KEY, source))
    again = await collect(await cache.stream(KEY, source))
    assert source.begun == 1
    for name in ("text", "reasoning", "tool_calls", "logprobs", "ids"):
        assert getattr(again, name) == getattr(first, name)
    assert again.started.prompt_logprobs == first.started.prompt_logprobs
    assert again.started.prompt_ids == (7, 8, 9)
    assert again.ids == tuple(range(40))
    assert again.finished.usage.completion_tokens == first.finished.usage.completion_tokens


async def test_a_kept_answer_says_the_length_of_a_prompt_that_only_its_end_said(cache):
    source = Source(Started(None), Delta("a"), FINISHED)
    await read(cache, source)
    _, events = await read(cache, source)
    assert events[0] == Started(3, 3)


async def test_a_long_answer_is_told_again_in_pieces(cache):
    source = Source(Started(3), *[Delta("word ")] * 100, FINISHED)
    await read(cache, source)
    _, events = await read(cache, source)
    assert words(events) == "word " * 100
    assert 10 <= len(events) <= 20


async def test_a_fresh_answer_is_made_anew_and_kept_in_the_place_of_the_old(cache):
    await read(cache, Source())
    newer = Source(Started(3), Delta("new"), FINISHED)
    status, events = await read(cache, newer, CachePolicy.REFRESH)
    assert (status, words(events)) == (CacheStatus.MISS, "new")
    assert words((await read(cache, newer))[1]) == "new"


async def test_who_wants_it_fresh_joins_nobody(cache):
    gate = asyncio.Event()
    source = Source(ANSWER[0], gate.wait, *ANSWER[1:])
    policies = (CachePolicy.ANY, CachePolicy.REFRESH, CachePolicy.ANY)
    reading = [asyncio.create_task(read(cache, source, policy)) for policy in policies]
    await turns()
    assert source.begun == 2
    gate.set()
    told = await asyncio.gather(*reading)
    assert [events for _, events in told] == [list(ANSWER)] * 3
    assert [status for status, _ in told] == [CacheStatus.MISS, CacheStatus.MISS, CacheStatus.COALESCED]


async def test_what_is_kept_but_cannot_be_read_is_made_anew(cache, store):
    source = Source()
    for nonsense in (b"", b"\xc1", b"\x90", b"not msgpack"):
        await store.put(KEY, nonsense)
        assert (await read(cache, source))[0] is CacheStatus.MISS


async def test_an_answer_is_to_be_had_while_it_is_put_away():
    slow = asyncio.Event()

    class Slow(MemoryAnswerStore):
        async def put(self, key, answer):
            await slow.wait()
            return await super().put(key, answer)

    cache, source = Cache(Slow(1_000_000, 60)), Source()
    assert (await read(cache, source))[1] == list(ANSWER)
    assert (await read(cache, source)) == (CacheStatus.COALESCED, list(ANSWER))
    slow.set()
    await turns()
    assert (await read(cache, source))[0] is CacheStatus.HIT
    assert source.begun == 1


async def test_closing_the_cache_ends_what_is_under_way_and_says_so():
    class Closing(AnswerStore):
        is_closed = False

        async def get(self, key):
            return None

        async def put(self, key, answer):
            return False

        async def aclose(self):
            self.is_closed = True

    cache, source = Cache(store := Closing()), Source(Started(3), asyncio.Event().wait)
    replay = await cache.stream(KEY, source)
    await anext(replay)
    await cache.aclose()
    with pytest.raises(Draining):
        await anext(replay)
    assert source.open == 0
    assert store.is_closed


async def owed(replay):
    """Leave, and return the tokens that are to be paid for."""
    await replay.aclose()
    return replay.owed and replay.owed.usage


async def test_the_first_that_leaves_a_whole_answer_pays_for_all(cache):
    replays = [await cache.stream(KEY, Source()) for _ in range(3)]
    for replay in replays:
        assert [event async for event in replay] == list(ANSWER)
    assert [await owed(replay) for replay in replays] == [FINISHED.usage, None, None]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(("read_first", "usage"), [(0, Usage(0, 0)), (1, Usage(3, 0)), (2, Usage(3, 1))])
async def test_of_those_that_leave_before_the_end_the_last_pays(cache, order, read_first, usage):
    source = Source(*ANSWER[:read_first], asyncio.Event().wait)
    replays = [await cache.stream(KEY, source) for _ in range(3)]
    await turns()
    paid = [await owed(replays[number]) for number in order]
    assert paid == [None, None, usage]
    assert replays[order[-1]].owed.work.is_begun


async def test_a_leader_that_leaves_pays_nothing_where_a_follower_stays(cache):
    gate = asyncio.Event()
    source = Source(*ANSWER[:2], gate.wait, *ANSWER[2:])
    leader, follower = [await cache.stream(KEY, source) for _ in range(2)]
    await anext(leader)
    assert await owed(leader) is None
    gate.set()
    assert [event async for event in follower] == list(ANSWER)
    assert await owed(follower) == FINISHED.usage


async def test_a_kept_answer_is_owed_by_nobody(cache):
    await read(cache, Source())
    replays = [await cache.stream(KEY, Source()) for _ in range(2)]
    for replay in replays:
        assert words([event async for event in replay]) == "ab"
    assert [await owed(replay) for replay in replays] == [None, None]


async def test_a_generation_that_failed_is_owed_for_what_it_made(cache):
    source = Source(Started(3), Delta("a"), ToolDelta(0, "{", tokens=2), EngineError("broken"))
    replays = [await cache.stream(KEY, source) for _ in range(2)]
    for replay in replays:
        with pytest.raises(EngineError):
            [event async for event in replay]
    assert [await owed(replay) for replay in replays] == [Usage(3, 3), None]


async def test_who_pays_does_so_also_where_it_is_cancelled_while_it_leaves(cache):
    stuck = asyncio.Event()

    class Reluctant(Source):
        async def __call__(self, work):
            try:
                async for event in super().__call__(work):
                    yield event
            finally:
                await stuck.wait()

    replay = await cache.stream(KEY, Reluctant(Started(3), asyncio.Event().wait))
    await anext(replay)
    leaving = asyncio.create_task(replay.aclose())
    await turns()
    leaving.cancel()
    stuck.set()
    await asyncio.gather(leaving, return_exceptions=True)
    assert replay.owed.usage == Usage(3, 0)


async def test_whoever_shares_an_answer_learns_the_trace_of_its_maker(cache):
    class Traced(Source):
        async def __call__(self, work):
            work.trace = "00-1-2-01"
            async for event in super().__call__(work):
                yield event

    async def maker(source):
        async with aclosing(await cache.stream(KEY, source)) as replay:
            events = [event async for event in replay]
            assert events
            return replay.status, replay.maker

    source = Traced()
    told = await asyncio.gather(maker(source), maker(source))
    assert set(told) == {(CacheStatus.MISS, None), (CacheStatus.COALESCED, "00-1-2-01")}
    assert await maker(source) == (CacheStatus.HIT, "00-1-2-01")


async def test_how_an_answer_would_come_is_foreseen_and_counts_nothing(cache):
    source = Source()
    assert await cache.foresee(KEY) is CacheStatus.MISS
    reading = asyncio.create_task(read(cache, source))
    await asyncio.sleep(0)
    assert await cache.foresee(KEY) is CacheStatus.COALESCED
    await reading
    await turns()
    assert await cache.foresee(KEY) is CacheStatus.HIT
    assert await cache.foresee(KEY, CachePolicy.REFRESH) is CacheStatus.MISS
    assert (source.begun, cache.counts.hits, cache.counts.misses) == (1, 0, 1)
