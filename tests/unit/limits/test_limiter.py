"""A caller gets what its limits allow, whichever store counts, and is told exactly when to come back."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import Usage
from gateway.limits import (
    Limiter,
    LimitReached,
    PromptAllowance,
    Quota,
    RequestsExceeded,
    TokensExceeded,
    TooManyConcurrent,
)
from tests.support.clock import Clock


async def use(limiter, quota, tokens=1, used=0, caller="a"):
    async with limiter.hold(caller, quota, tokens) as allowance:
        allowance.used = used
    return allowance


async def test_requests_a_minute_are_counted(limiter):
    quota = Quota(requests_per_minute=2)
    first = await use(limiter, quota)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    await use(limiter, quota)
    with pytest.raises(RequestsExceeded) as refused:
        await use(limiter, quota)
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.retry_after == pytest.approx(30, abs=2)
    assert refused.value.headers["x-ratelimit-remaining-requests"] == "0"
    await use(limiter, quota, caller="b")


async def test_tokens_a_minute_are_reserved_and_settled(limiter):
    quota = Quota(tokens_per_minute=1_000_000)
    await use(limiter, quota, tokens=900_000, used=200_000)
    async with limiter.hold("a", quota, 700_000) as allowance:
        allowance.used = 750_000
        assert int(allowance.headers["x-ratelimit-remaining-tokens"]) == pytest.approx(100_000, abs=60_000)
        with pytest.raises(TokensExceeded) as refused:
            await use(limiter, quota, tokens=300_000)
        assert refused.value.code == "tokens_exceeded"
    with pytest.raises(TokensExceeded):
        await use(limiter, quota, tokens=200_000)


async def test_more_tokens_than_the_limit_wait_for_all_of_it(limiter):
    quota = Quota(tokens_per_minute=100)
    await use(limiter, quota, tokens=5_000, used=90)
    with pytest.raises(TokensExceeded) as refused:
        await use(limiter, quota, tokens=5_000)
    assert refused.value.retry_after == pytest.approx(54, abs=4)


async def test_tokens_a_day_are_a_budget(limiter):
    quota = Quota(tokens_per_day=1_000)
    await use(limiter, quota, tokens=900, used=600)
    with pytest.raises(TokensExceeded, match="1000 tokens a day") as refused:
        await use(limiter, quota, tokens=500)
    assert refused.value.retry_after == pytest.approx(86_400, abs=60)
    await use(limiter, quota, tokens=400, used=400)
    with pytest.raises(TokensExceeded):
        await use(limiter, quota, tokens=1)


async def test_so_many_at_once_and_no_more(limiter):
    quota = Quota(concurrent=2)
    async with limiter.hold("a", quota, 1), limiter.hold("a", quota, 1):
        with pytest.raises(TooManyConcurrent) as refused:
            await use(limiter, quota)
        assert refused.value.code == "too_many_concurrent"
        await use(limiter, quota, caller="b")
    await use(limiter, quota)


async def test_what_failed_gives_its_tokens_and_its_place_back(limiter):
    quota = Quota(tokens_per_minute=100, tokens_per_day=100, concurrent=1)

    async def fail():
        async with limiter.hold("a", quota, 100):
            raise KeyError

    for _ in range(3):
        with pytest.raises(KeyError):
            await fail()
    await use(limiter, quota, tokens=100)


async def test_only_the_first_settlement_counts(limiter):
    quota = Quota(tokens_per_day=1_000)
    async with limiter.hold("a", quota, 1_000) as allowance:
        allowance.used = 900
        store, grant = allowance._store, allowance._grant
    store.settle(grant, 0)
    with pytest.raises(TokensExceeded):
        await use(limiter, quota, tokens=101)


async def test_a_refusal_takes_nothing(limiter):
    quota = Quota(requests_per_minute=1_000, tokens_per_minute=10_000, tokens_per_day=500)
    await use(limiter, quota, tokens=500, used=500)
    for _ in range(5):
        with pytest.raises(TokensExceeded):
            await use(limiter, quota, tokens=100)
    wider = Quota(requests_per_minute=1_000, tokens_per_minute=10_000, tokens_per_day=5_000)
    allowance = await use(limiter, wider, tokens=100)
    assert int(allowance.headers["x-ratelimit-remaining-requests"]) >= 998
    assert int(allowance.headers["x-ratelimit-remaining-tokens"]) >= 9_400


async def test_without_limits_nothing_is_counted_nor_told(limiter):
    allowance = await use(limiter, Quota(), tokens=10**9)
    assert allowance.headers == {}


async def test_a_new_limit_forgets_nothing(limiter):
    await use(limiter, Quota(requests_per_minute=100))
    for _ in range(4):
        await use(limiter, Quota(requests_per_minute=100))
    with pytest.raises(RequestsExceeded):
        await use(limiter, Quota(requests_per_minute=5))
    await use(limiter, Quota(requests_per_minute=1_000))


async def test_a_refused_one_comes_back_when_it_was_told_to(local, clock):
    quota = Quota(requests_per_minute=7, tokens_per_minute=70, tokens_per_day=900)
    served = 0
    while served < 60:
        try:
            await use(local, quota, tokens=10, used=10)
            served += 1
        except LimitReached as refused:
            clock.advance(refused.retry_after * 0.95)
            with pytest.raises(LimitReached):
                await use(local, quota, tokens=10)
            clock.advance(refused.retry_after * 0.05)
            await use(local, quota, tokens=10, used=10)
            served += 1


async def test_a_day_begins_anew_after_24_hours_and_old_grants_do_not_count_in_it(local, clock):
    quota = Quota(tokens_per_day=100)
    async with local.hold("a", quota, 100) as allowance:
        clock.advance(86_400)
        await use(local, quota, tokens=60, used=60)
        allowance.used = 0
    with pytest.raises(TokensExceeded):
        await use(local, quota, tokens=41)
    await use(local, quota, tokens=40)


def test_the_headers_are_whole_seconds_and_milliseconds_never_too_early():
    error = LimitReached("no", retry_after=1.0001)
    assert error.headers == {"retry-after": "2", "retry-after-ms": "1001"}
    assert LimitReached("no", retry_after=0).headers == {"retry-after": "1", "retry-after-ms": "1"}


async def test_the_reset_is_told_in_seconds(local):
    allowance = await use(local, Quota(requests_per_minute=60, tokens_per_minute=6_000), tokens=50)
    assert allowance.headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5950",
        "x-ratelimit-reset-tokens": "0.5s",
    }


@pytest.mark.parametrize(("limit", "parts", "share"), [(10, 4, 2), (3, 4, 1), (None, 4, None)])
def test_a_share_is_never_nothing(limit, parts, share):
    assert Quota(concurrent=limit).share(parts).concurrent == share


moves = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.floats(0, 20)), max_size=40)


@given(st.integers(1, 20), st.integers(50, 200), st.integers(50, 500), moves)
def test_no_budget_is_ever_exceeded(requests, tokens, day, asked):
    async def play():
        clock = Clock(0.0)
        limiter = Limiter(clock=clock)
        quota = Quota(requests_per_minute=requests, tokens_per_minute=tokens, tokens_per_day=day)
        made = spent = 0
        for most, used, pause in asked:
            clock.advance(pause)
            try:
                await use(limiter, quota, tokens=most, used=min(used, most))
            except LimitReached:
                continue
            made += 1
            spent += min(used, most)
            assert made <= requests * (1 + clock.now / 60) + 1e-6
            assert spent <= tokens * (1 + clock.now / 60) + 1e-6
            assert spent <= day

    asyncio.run(play())


async def test_what_generations_used_is_added_up(local):
    quota = Quota(tokens_per_day=1_000)
    async with local.hold("a", quota, 1_000) as allowance:
        assert allowance.charge(Usage(10, 5, 3)) == Usage(10, 5, 3)
        allowance.charge(Usage(1, 2))
    await use(local, quota, tokens=982)
    with pytest.raises(TokensExceeded):
        await use(local, quota, tokens=983)


async def test_the_prompt_of_several_answers_is_counted_once(local):
    async with local.hold("a", Quota(tokens_per_minute=100), 100) as allowance:
        first, second = PromptAllowance(allowance), PromptAllowance(allowance)
        async with first as part:
            assert part.headers == allowance.headers != {}
        told = [first.charge(Usage(4, 2, 0)), first.charge(Usage(4, 3, 4)), second.charge(Usage(6, 1))]
        # A prompt whose length was not known before counts up to that which is known.
        told += [second.charge(Usage(5, 0)), second.charge(Usage(7, 0))]
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in told] == [
        (4, 2),
        (0, 3),
        (6, 1),
        (0, 0),
        (1, 0),
    ]
    assert allowance.used == 4 + 7 + 6
