"""What is kept in memory stays within its bound and its time, and the answer read longest ago goes first."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import MemoryAnswerStore
from gateway.cache.memory_store import ENTRY
from tests.support.clock import Clock

keys = st.sampled_from([bytes([number]) * 32 for number in range(6)])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.binary(max_size=400)),
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=60,
)


async def take(store, model, clock, step):
    """Do one step in the store and in a model of it that counts plainly."""
    match step:
        case ("put", key, answer):
            model.pop(key, None)
            if await store.put(key, answer):
                while sum(len(kept) + ENTRY for kept, _ in model.values()) + len(answer) + ENTRY > 2_000:
                    model.popitem(last=False)
                model[key] = (answer, clock.now + 60)
        case ("get", key):
            kept = model.get(key)
            if kept is not None and kept[1] <= clock.now:
                del model[key]
                kept = None
            if kept is not None:
                model.move_to_end(key)
            assert await store.get(key) == (kept and kept[0])
        case ("wait", seconds):
            clock.advance(seconds)


@given(steps)
async def test_it_keeps_what_a_plain_model_of_it_keeps(told):
    clock = Clock()
    store, model = MemoryAnswerStore(2_000, 60, clock), OrderedDict()
    for step in told:
        await take(store, model, clock, step)
        assert store.size == sum(len(answer) + ENTRY for answer, _ in model.values()) <= 2_000


@given(st.integers(0, 3_000), st.lists(st.binary(max_size=3_000), max_size=20))
async def test_it_never_grows_over_its_bound(most, answers):
    store = MemoryAnswerStore(most, 60)
    for number, answer in enumerate(answers):
        is_kept = await store.put(bytes([number]), answer)
        assert is_kept is (len(answer) + ENTRY <= most)
        assert store.size <= most
        assert await store.get(bytes([number])) == (answer if is_kept else None)


@pytest.mark.parametrize(("age", "is_there"), [(0, True), (59.9, True), (60, False), (1_000, False)])
async def test_an_answer_lives_as_long_as_it_was_given(age, is_there):
    clock = Clock()
    store = MemoryAnswerStore(2_000, 60, clock)
    await store.put(b"k", b"answer")
    clock.advance(age)
    assert (await store.get(b"k") is not None) is is_there
    assert (store.size > 0) is is_there


async def test_to_be_read_makes_an_answer_stay_but_not_live_longer():
    clock = Clock()
    store = MemoryAnswerStore(2 * (ENTRY + 1), 60, clock)
    for key in (b"a", b"b"):
        await store.put(key, b"x")
    clock.advance(59)
    await store.get(b"a")
    await store.put(b"c", b"x")
    assert (await store.get(b"a"), await store.get(b"b")) == (b"x", None)
    assert store.evictions == 1
    clock.advance(1)
    assert await store.get(b"a") is None


async def test_one_that_is_too_large_takes_no_others_place_but_that_of_its_older_self():
    store = MemoryAnswerStore(1_000, 60)
    await store.put(b"a", b"x")
    await store.put(b"b", b"x")
    assert not await store.put(b"b", bytes(1_000))
    assert (await store.get(b"a"), await store.get(b"b")) == (b"x", None)
    assert store.evictions == 0


async def test_to_look_for_an_answer_does_not_keep_it_longer():
    clock = Clock()
    store = MemoryAnswerStore(2 * (ENTRY + 1), 60, clock)
    for key in (b"one", b"two"):
        await store.put(key, b"x")
    assert (await store.has(b"one"), await store.has(b"none")) == (True, False)
    await store.put(b"three", b"x")
    assert [await store.has(key) for key in (b"one", b"two", b"three")] == [False, True, True]
    clock.advance(60)
    assert not await store.has(b"two")
