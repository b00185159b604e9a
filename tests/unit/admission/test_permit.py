"""A permit is the only way to a place; it comes in turn, and goes back whatever happens."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, aclosing

import pytest
from msgspec import structs

from gateway.admission import QueueTimeout
from gateway.engine import (
    Completion,
    DeadlineExceeded,
    Draining,
    GenerateRequest,
    InvalidRequest,
    Overloaded,
    Sampling,
    Started,
    Unavailable,
    UpstreamFailed,
)
from tests.support.steps import cancelled_at
from tests.unit.admission.conftest import House, settle_down


async def test_places_are_handed_out_and_come_back(house):
    async with house.permit() as one, house.permit():
        assert one.is_held
        assert one.waited == 0
        assert house.queue.places.running == 2
    house.assert_empty()


async def test_who_finds_no_place_waits_for_one(house):
    until, others = asyncio.Event(), asyncio.Event()
    tasks = [house.start(name, others) for name in "ab"] + [house.start("c", until)]
    await settle_down()
    assert house.log == ["a", "b"]
    assert house.queue.waiting == 1
    others.set()
    await settle_down()
    assert house.log == ["a", "b", "c"]
    until.set()
    await asyncio.gather(*tasks)
    house.assert_empty()


async def test_tokens_are_a_budget_of_their_own(make_house):
    house = make_house(places=9, cache_tokens=100)
    async with house.permit(tokens=59), AsyncExitStack() as stack:
        await stack.enter_async_context(house.permit(tokens=29))
        assert house.queue.places.tokens == 90
        until = asyncio.Event()
        waiting = house.start("late", until, tokens=19)
        await settle_down()
        assert house.queue.waiting == 1
        await stack.aclose()
        await settle_down()
        assert house.log == ["late"]
        until.set()
        await waiting
    house.assert_empty()


async def test_a_prompt_of_unknown_length_keeps_what_was_reserved_for_it(make_house):
    house = make_house(places=9, cache_tokens=1_000)
    async with house.permit(tokens=500) as permit:
        held = house.queue.places.tokens
        permit.settle(Started(None))
        assert house.queue.places.tokens == held
    house.assert_empty()


async def test_what_the_prompt_did_not_need_is_given_back_at_started(make_house):
    house = make_house(places=9, cache_tokens=1_000)
    request = house.permit(tokens=500)
    request._waiter.cost = 1_000  # as of a long prompt
    until = asyncio.Event()
    async with request as permit:
        waiting = house.start("next", until, tokens=499)
        await settle_down()
        assert house.log == []
        permit.settle(Started(prompt_tokens=0))
        permit.settle(Started(prompt_tokens=900))
        assert house.queue.places.tokens == 1_000
        await settle_down()
        assert house.log == ["next"]
        until.set()
        await waiting
        assert house.queue.places.tokens == 500
    house.assert_empty()


async def test_nobody_overtakes_a_large_request_at_the_head(make_house):
    house = make_house(places=9, cache_tokens=1_000)
    until, small = asyncio.Event(), asyncio.Event()
    async with house.permit(tokens=599):
        tasks = [house.start("large", until, tokens=899), house.start("small", small, tokens=9)]
        await settle_down()
        assert house.log == []
    await settle_down()
    assert house.log == ["large", "small"]
    until.set()
    small.set()
    await asyncio.gather(*tasks)
    house.assert_empty()


async def test_a_request_larger_than_the_cache_runs_alone(make_house):
    house = make_house(places=9, cache_tokens=100)
    async with house.permit(tokens=10**6):
        assert house.queue.places.tokens == 100
    house.assert_empty()


async def test_a_full_queue_refuses_at_once(make_house):
    house = make_house(places=1, waiters_per_place=1)
    until = asyncio.Event()
    tasks = [house.start("a", until, caller="a"), house.start("b", until, caller="b")]
    await settle_down()
    with pytest.raises(Overloaded, match="too many requests are waiting"):
        await house.permit(caller="c").__aenter__()
    until.set()
    await asyncio.gather(*tasks)
    house.assert_empty()


async def test_the_refusal_says_when_to_come_back(make_house):
    house = make_house(places=2, waiters_per_place=5)
    await house.measure(seconds=2.0)
    until = asyncio.Event()
    tasks = [house.start(str(number), until, caller=str(number)) for number in range(12)]
    await settle_down()
    with pytest.raises(Overloaded) as refused:
        await house.permit(caller="12").__aenter__()
    # Ten wait, each takes 2 s, two at a time; then one more place has to come free.
    assert refused.value.retry_after == pytest.approx(11, rel=0.01)
    until.set()
    await asyncio.gather(*tasks)


async def test_an_unmeasured_queue_says_a_second(make_house):
    house = make_house(places=1, waiters_per_place=1)
    async with house.permit():
        waiting = house.start("b", asyncio.Event())
        await settle_down()
        with pytest.raises(Overloaded) as refused:
            await house.permit().__aenter__()
        assert refused.value.retry_after == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    house.assert_empty()


async def test_the_loudest_caller_gives_up_its_last_waiter_to_a_quiet_one(make_house):
    house = make_house(places=1, waiters_per_place=3)
    until = asyncio.Event()
    noisy = [house.start(f"noisy-{number}", until, caller="noisy") for number in range(4)]
    await settle_down()
    quiet = house.start("quiet", until, caller="quiet")
    await settle_down()
    with pytest.raises(Overloaded, match="most of them yours"):
        await noisy[-1]
    until.set()
    await asyncio.gather(quiet, *noisy[:-1])
    assert house.log.index("quiet") <= 2
    house.assert_empty()


async def test_who_would_get_the_first_token_too_late_need_not_wait_for_it(house):
    await house.measure(seconds=2.0, first=0.5)
    async with AsyncExitStack() as stack:
        await house.fill(stack)
        soon = house.clock() + 1.4
        with pytest.raises(Overloaded, match=r"in about 1\.0 s, and the request has 1\.4 s"):
            await house.permit(first_token=soon).__aenter__()
        waiting = house.start("patient", asyncio.Event(), first_token=soon + 0.2)
        await settle_down()
        assert house.queue.waiting == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    house.assert_empty()


async def test_a_free_place_is_given_whatever_was_measured(house):
    await house.measure(seconds=100, first=50)
    async with house.permit(), house.permit(first_token=house.clock() + 0.1) as permit:
        assert permit.is_held


async def test_who_waited_too_long_is_told_by_a_timer(house):
    async with AsyncExitStack() as stack:
        await house.fill(stack)
        with pytest.raises(QueueTimeout) as late:
            await house.permit(place=house.clock() + 0.01).__aenter__()
        assert late.value.code == "queue_timeout"
        assert house.queue.waiting == 0
    house.assert_empty()


async def test_who_expired_in_the_queue_is_never_computed(house):
    until, free = asyncio.Event(), asyncio.Event()
    first = [house.start(name, free) for name in "ab"]
    await settle_down()
    expired = house.start("expired", until, place=house.clock() + 3_600)
    alive = house.start("alive", until)
    await settle_down()
    house.clock.advance(3_601)  # no timer fires: the loop was busy elsewhere
    free.set()
    with pytest.raises(QueueTimeout):
        await expired
    await settle_down()
    assert house.log == ["a", "b", "alive"]
    until.set()
    await asyncio.gather(alive, *first)
    house.assert_empty()


async def test_patience_that_is_over_is_refused_before_the_wait(house):
    with pytest.raises(QueueTimeout):
        await house.permit(place=house.clock()).__aenter__()
    now = house.clock()
    with pytest.raises(DeadlineExceeded):
        await house.permit(place=now, first_token=now).__aenter__()


@pytest.mark.parametrize(
    ("limits", "error"), [(("place",), QueueTimeout), (("place", "first_token"), DeadlineExceeded)]
)
async def test_patience_that_is_over_while_the_queue_is_served_is_no_wait_without_end(house, limits, error):
    """Time goes on between the look at the limits and the look at the places."""
    now = house.clock()
    permit = house.permit(**dict.fromkeys(limits, now + 0.5))
    moments = iter([now])
    house.queue.clock = lambda: next(moments, now + 1.0)
    with pytest.raises(error):
        await asyncio.wait_for(permit.__aenter__(), 5)
    house.assert_empty()
    house.assert_empty()


async def test_a_permit_is_entered_once(house):
    permit = house.permit()
    async with permit:
        pass
    with pytest.raises(RuntimeError):
        await permit.__aenter__()
    house.assert_empty()


async def test_a_model_loaded_again_may_have_other_places(make_house):
    house = make_house(places=1)
    async with house.permit():
        assert house.queue.waiting == 0
        house.card = make_house(places=3).card
        async with house.permit(), house.permit():
            assert house.queue.places.running == 3
    house.assert_empty()


async def test_a_waiter_is_told_where_it_stands(house):
    await house.measure(seconds=2.0)
    async with AsyncExitStack() as stack:
        await house.fill(stack)
        permits = [house.permit() for _ in range(3)]
        tasks = [asyncio.create_task(house.work("x", permit, asyncio.Event())) for permit in permits]
        await settle_down()
        positions = [permit.position for permit in permits]
        assert [position.position for position in positions] == [1, 2, 3]
        assert [position.eta for position in positions] == pytest.approx([1, 2, 3], rel=0.01)
        tasks[0].cancel()
        await settle_down()
        assert permits[0].position is None
        assert permits[1].position.position == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert house.permit().position is None
    house.assert_empty()


async def test_updates_tell_every_move_and_end_with_the_place(make_house):
    house = make_house(places=1)
    gates = [asyncio.Event() for _ in range(3)]
    tasks = [house.start(str(number), gate) for number, gate in enumerate(gates)]
    permit, done = house.permit(), asyncio.Event()
    heard = []

    async def listen():
        heard.extend([position.position async for position in permit.updates()])

    listener = asyncio.create_task(listen())
    await settle_down()
    last = asyncio.create_task(house.work("last", permit, done))
    for gate in gates:
        await settle_down()
        gate.set()
    await asyncio.wait_for(listener, 5)
    assert heard == [3, 2, 1]
    done.set()
    await asyncio.gather(last, *tasks)
    house.assert_empty()


async def test_updates_end_for_who_was_refused(make_house):
    house = make_house(places=1, waiters_per_place=1)
    until = asyncio.Event()
    tasks = [house.start(name, until) for name in "ab"]
    permit = house.permit()

    async def listen():
        return [position async for position in permit.updates()]

    listener = asyncio.create_task(listen())
    await settle_down()
    with pytest.raises(Overloaded):
        await permit.__aenter__()
    assert await asyncio.wait_for(listener, 5) == []
    until.set()
    await asyncio.gather(*tasks)


async def fail(house, error):
    with pytest.raises(type(error)):
        async with house.permit():
            raise error


async def test_an_upstream_that_keeps_failing_is_left_alone(house):
    for _ in range(5):
        await fail(house, UpstreamFailed("down"))
    with pytest.raises(Unavailable) as refused:
        await house.permit().__aenter__()
    assert 5 <= refused.value.retry_after <= 10
    house.clock.advance(10)
    async with house.permit() as probe:
        probe.settle(Started(1))
    async with house.permit(), house.permit():
        pass
    house.assert_empty()


@pytest.mark.parametrize("error", [InvalidRequest("no"), Unavailable("restarting"), Draining("down"), KeyError("bug")])
async def test_errors_of_one_request_or_a_restart_open_no_breaker(house, error):
    for _ in range(30):
        await fail(house, error)
    async with house.permit():
        pass
    house.assert_empty()


async def test_those_in_the_queue_behind_an_open_breaker_wait_for_the_probe(make_house):
    house = make_house(places=1)
    house.queue.breaker._seconds = (0.02, 0.02)
    until = asyncio.Event()
    for _ in range(4):
        await fail(house, UpstreamFailed("down"))
    last = house.permit()
    await last.__aenter__()
    until.set()
    waiting = [house.start(name, until) for name in "ab"]
    await settle_down()
    await last.__aexit__(None, UpstreamFailed("down"), None)
    await settle_down()
    assert house.log == []
    house.clock.advance(1)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert house.log == ["a", "b"]
    house.assert_empty()


@pytest.mark.parametrize("step", range(12))
async def test_a_cancel_at_any_step_leaks_nothing(make_house, step):
    house = make_house(places=1)
    free = asyncio.Event()
    holder = house.start("holder", free)
    await settle_down()

    async def ask():
        async with house.permit() as permit:
            await asyncio.sleep(0)
            permit.settle(Started(1))
            await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    for delay in range(4):  # the place comes free before, at, and after the moment of the cancel
        loop.call_soon(lambda turns=delay: later(turns, free.set))
    await cancelled_at(step, ask)
    free.set()
    await holder
    house.assert_empty()


def later(turns, call):
    """Call after some turns of the loop."""
    if turns:
        asyncio.get_running_loop().call_soon(later, turns - 1, call)
    else:
        call()


async def test_a_place_that_was_given_to_who_is_being_cancelled_goes_to_the_next(make_house):
    house = make_house(places=1)
    until, holder = asyncio.Event(), house.permit()
    await holder.__aenter__()
    doomed, heir = house.start("doomed", until), house.start("heir", until)
    await settle_down()
    await holder.__aexit__(None, None, None)  # the place is given to the first in the queue ...
    doomed.cancel()  # ... which is cancelled before it can take it
    await settle_down()
    assert house.log == ["heir"]
    until.set()
    await asyncio.gather(heir, doomed, return_exceptions=True)
    house.assert_empty()


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_no_place_and_no_token_is_lost_or_given_twice(make_house, seed):
    chance = random.Random(seed)  # noqa: S311 - no secret
    house = make_house(places=3, cache_tokens=300)

    async def ask(number):
        limits = {"place": house.clock() + chance.choice([0.5, 5, 1e9])}
        async with house.permit(caller=chance.choice("abc"), tokens=chance.randint(1, 400), **limits) as permit:
            assert house.queue.places.running <= 3
            assert house.queue.places.tokens <= 300
            for _ in range(chance.randint(0, 5)):
                await asyncio.sleep(0)
            if chance.random() < 0.7:
                permit.settle(Started(chance.randint(0, 20)))
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                raise UpstreamFailed(str(number))

    tasks = []
    for number in range(150):
        tasks.append(asyncio.create_task(ask(number)))
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        house.clock.advance(chance.random() / 10)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    expected = Overloaded | UpstreamFailed | Unavailable | asyncio.CancelledError | None
    assert [result for result in results if not isinstance(result, expected)] == []
    house.assert_empty()


async def test_a_hundred_to_one_neighbour_costs_a_quiet_caller_one_service_time(make_house):
    """The quiet one asks again and again; how many of the noisy one's requests are served before each of its own?"""
    house = make_house(places=4, waiters_per_place=8)
    stop, served, waits = asyncio.Event(), Counter(), []

    async def one(caller):
        async with house.permit(caller=caller):
            served[caller] += 1
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def noisy():
        while not stop.is_set():
            try:
                await one("noisy")
            except Overloaded:
                await asyncio.sleep(0)

    neighbours = [asyncio.create_task(noisy()) for _ in range(100)]
    await settle_down()
    for _ in range(50):
        before = served["noisy"]
        await one("quiet")
        waits.append(served["noisy"] - before)
    stop.set()
    await asyncio.gather(*neighbours)
    assert served["quiet"] == 50
    assert max(waits) <= 4 * house.card.places
    house.assert_empty()


async def enter_watched(permit, told):
    """Enter by way of the positions, note each, and leave at once."""
    async with aclosing(permit.positions()) as positions:
        async for position in positions:
            told.append(position.position)
    assert permit.is_held
    await permit.__aexit__(None, None, None)


async def test_the_positions_of_a_permit_end_with_the_place(make_house):
    house = make_house(places=1)
    told = []
    async with AsyncExitStack() as stack:
        await house.fill(stack)
        until = asyncio.Event()
        first = house.start("first", until)
        await settle_down()
        task = asyncio.create_task(enter_watched(house.permit(), told))
        await settle_down()
        assert told == [2]
        until.set()
    await asyncio.gather(first, task)
    assert told == [2, 1]
    house.assert_empty()


async def test_a_queue_that_is_full_is_an_error_before_anything_is_told(make_house):
    house = make_house(places=1, waiters_per_place=1)
    told = []
    async with house.permit():
        waiting = house.start("waits", asyncio.Event())
        await settle_down()
        with pytest.raises(Overloaded):
            await enter_watched(house.permit(), told)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert told == []
    house.assert_empty()


@pytest.mark.parametrize("step", range(14))
async def test_a_cancel_at_any_step_of_the_positions_leaks_nothing(make_house, step):
    house = make_house(places=1)
    async with house.permit():
        await cancelled_at(step, lambda: enter_watched(house.permit(), []))
        assert (house.queue.places.running, house.queue.waiting) == (1, 0)
    await cancelled_at(step, lambda: enter_watched(house.permit(), []))
    house.assert_empty()


async def test_the_last_place_is_not_for_who_has_all_the_others_while_others_come(make_house):
    house = make_house(places=4)
    async with house.permit(caller="quiet"):
        pass
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(house.permit(caller="loud"))
        until = asyncio.Event()
        loud = house.start("loud", until, caller="loud")
        await settle_down()
        assert house.log == []
        async with house.permit(caller="quiet") as permit:
            assert permit.waited == 0
        house.clock.advance(61)
        next_loud = house.start("next", until, caller="loud")
        await settle_down()
        assert house.log == ["loud"]
        until.set()
        await asyncio.gather(loud, next_loud)
    house.assert_empty()


async def test_who_is_alone_has_all_places(make_house):
    house = make_house(places=4)
    async with AsyncExitStack() as stack:
        await house.fill(stack)
        assert house.queue.places.running == 4
    house.assert_empty()


def test_several_answers_share_the_bound_of_their_prompt():
    house = House()
    asked = GenerateRequest(id="1", model="m", prompt=Completion("x" * 99), sampling=Sampling(max_tokens=20))
    assert [house.admission.cost(asked, house.card, answers) for answers in (1, 2, 5)] == [120, 140, 200]
    huge = structs.replace(asked, prompt=Completion("x" * 9_999))
    assert [house.admission.cost(huge, house.card, answers) for answers in (1, 3)] == [1_000, 1_040]


async def test_answers_that_break_off_open_the_breaker_too(house):
    for _ in range(5):
        permit = await house.permit().__aenter__()
        permit.settle(Started(1))
        await permit.__aexit__(None, UpstreamFailed("half a frame"), None)
    with pytest.raises(Unavailable):
        await house.permit().__aenter__()
    house.assert_empty()


async def test_those_that_have_another_engine_leave_the_queue_of_one_that_is_left_alone(make_house):
    house = make_house(places=1)
    for _ in range(4):
        await fail(house, UpstreamFailed("down"))
    last = house.permit()
    await last.__aenter__()
    waiting = asyncio.create_task(house.permit(is_patient=False).__aenter__())
    await settle_down()
    await last.__aexit__(None, UpstreamFailed("down"), None)
    with pytest.raises(Unavailable) as dismissed:
        await asyncio.wait_for(waiting, 60)
    assert dismissed.value.retry_after >= 5
    house.clock.advance(10)
    async with house.permit():  # tries it
        with pytest.raises(Unavailable):
            await house.permit(is_patient=False).__aenter__()
    house.assert_empty()
