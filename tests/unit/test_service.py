"""The rules of a generation, in their order."""

import asyncio
from contextlib import aclosing

import msgspec
import pytest
from msgspec import structs

from gateway.admission import Admission, QueuePosition, QueueTimeout, prompt_bound
from gateway.auth import ANONYMOUS, Caller, Scope
from gateway.cache import CachePolicy
from gateway.config import Config, EngineSettings, TelemetrySettings
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import (
    Completion,
    DeadlineExceeded,
    EngineError,
    FinishReason,
    GenerateRequest,
    Grammar,
    Regex,
    Sampling,
    Started,
    UnknownModel,
    Unsupported,
    collect,
)
from gateway.flow.deadline import Timeouts
from gateway.hosting.hosting import Hosting
from gateway.inflight import Cancelled, Options
from gateway.limits import Limiter, PromptAllowance, Quota, TokensExceeded, TooManyConcurrent
from gateway.service import Inference
from gateway.telemetry import Telemetry


class House:
    """Inference with all that it needs, for one caller."""

    def __init__(self, hosting, telemetry):
        self.hosting = hosting
        self.admission = Admission()
        self.inference = Inference(hosting, self.admission, Limiter(), telemetry, CurrentConfig(Snapshot.of(Config())))

    def generate(self, asked, caller=ANONYMOUS, **times):
        return self.inference.generate(self.admit(asked, caller, timeouts=Timeouts(**times)))

    def tell(self, asked, caller=ANONYMOUS):
        return self.inference.generate(self.admit(asked, caller, wants_queue_updates=True))

    def admit(self, asked, caller=ANONYMOUS, **options):
        target = self.inference.find(asked.model, caller)
        return self.inference.admit(asked, caller, target, Options(**options))


@pytest.fixture
async def inference():
    """Inference over a quick echo and a slow one."""
    engines = {
        "default": EngineSettings(plugin="echo", settings={}),
        "slow": EngineSettings(plugin="echo", settings={"model": "slow", "delay": 3_600.0, "places": 1}),
    }
    engines["scripted"] = EngineSettings(plugin="scripted", settings={})
    telemetry = Telemetry.start(TelemetrySettings(log_level="CRITICAL"))
    async with Hosting(engines, 5.0) as hosting:
        await hosting.settled.wait()
        yield House(hosting, telemetry)
    await telemetry.stop()


def request(text="a b c", *, name="r", model="echo", **sampling):
    asked = Sampling(**sampling)
    return GenerateRequest(id=name, model=model, prompt=Completion(text), sampling=asked)


async def test_events_come_through(inference):
    assert (await collect(inference.generate(request()))).text == "a b c"


async def test_an_unknown_model_is_refused(inference):
    with pytest.raises(UnknownModel):
        await collect(inference.generate(request(model="nope")))


async def test_what_the_card_lacks_is_refused_by_name(inference):
    with pytest.raises(Unsupported, match="logit_bias") as raised:
        await collect(inference.generate(request(logit_bias={1: 1.0})))
    assert raised.value.param == "logit_bias"


@pytest.mark.parametrize("constraint", [Regex("a"), Grammar("a")])
async def test_a_constraint_that_the_card_lacks_is_never_sent(inference, monkeypatch, constraint):
    sent = []
    monkeypatch.setattr("gateway_echo.EchoEngine.generate", sent.append)
    with pytest.raises(Unsupported) as raised:
        await collect(inference.generate(structs.replace(request(), constraint=constraint)))
    assert raised.value.param == type(constraint).__struct_config__.tag
    assert sent == []


async def test_time_that_runs_out_after_the_start_is_an_end_with_its_reason(inference):
    answer = await collect(inference.generate(request(model="slow"), total=0.05))
    assert answer.finished.reason is FinishReason.DEADLINE
    assert answer.finished.usage.prompt_tokens == 3


async def test_time_that_runs_out_in_the_line_is_never_computed(inference):
    async with aclosing(inference.generate(request(model="slow"))) as holder:
        await anext(holder)
        with pytest.raises(QueueTimeout):
            await collect(inference.generate(request(model="slow", name="s"), total=0.05))
        assert inference.admission.queues["slow"].waiting == 0
    assert inference.admission.queues["slow"].places.running == 0


async def test_who_wants_to_know_is_told_its_place_in_the_line(inference):
    async with aclosing(inference.generate(request(model="slow"))) as holder:
        await anext(holder)
        async with aclosing(inference.tell(request(model="slow", name="s"))) as waiting:
            assert (await anext(waiting)) == QueuePosition(1, None)
            await holder.aclose()
            assert type(await anext(waiting)) is Started
    assert inference.admission.queues["slow"].places.running == 0


async def test_who_leaves_the_line_leaves_nothing_behind(inference):
    async with aclosing(inference.generate(request(model="slow"))) as holder:
        await anext(holder)
        async with aclosing(inference.tell(request(model="slow", name="s"))) as waiting:
            await anext(waiting)
            assert inference.admission.queues["slow"].waiting == 1
        assert inference.admission.queues["slow"].waiting == 0
        assert [visit.request.id for visit in inference.inference.in_flight.seen_by(ANONYMOUS)] == ["r"]


SHOP = Caller(id="k1", name="shop", scopes=frozenset({Scope.INFER}), quota=Quota(tokens_per_minute=30, concurrent=1))
OTHER = Caller(id="k2", name="other", scopes=frozenset({Scope.INFER}), models=frozenset({"echo"}))


async def test_what_was_used_is_settled_not_what_was_reserved(inference):
    for _ in range(3):
        await collect(inference.generate(request(max_tokens=12), SHOP))
    with pytest.raises(TokensExceeded):
        await collect(inference.generate(request(max_tokens=12), SHOP))


def scripted(name="r", **script):
    prompt = Completion(msgspec.json.encode({"script": {"knows_prompt": False, **script}}).decode())
    return structs.replace(request(name=name, model="scripted"), prompt=prompt)


async def test_a_prompt_whose_length_is_known_at_the_end_counts_towards_the_limits(inference):
    caller = structs.replace(SHOP, quota=Quota(tokens_per_minute=1_000))
    entry = inference.admit(scripted(texts=["a"] * 50), caller)
    answer = await collect(inference.inference.generate(entry))
    assert answer.started.prompt_tokens is None
    usage = answer.finished.usage
    assert (entry.telemetry.prompt_tokens, usage.completion_tokens) == (usage.prompt_tokens, 50)
    again = inference.admit(scripted("s"), caller)
    await collect(inference.inference.generate(again))
    left = int(again.headers["x-ratelimit-remaining-tokens"])
    assert left == 1_000 - usage.prompt_tokens - 50 - again.cost


async def test_what_was_cut_off_a_prompt_was_read_too(inference):
    caller = structs.replace(SHOP, quota=Quota(tokens_per_minute=1_000))
    cut = structs.replace(request(model="scripted"), prompt=Completion("x " * 32 * 100), truncate=1)
    entry = inference.admit(cut, caller)
    answer = await collect(inference.inference.generate(entry))
    assert answer.finished.usage.prompt_tokens == 1
    again = inference.admit(scripted("s"), caller)
    await collect(inference.inference.generate(again))
    left = int(again.headers["x-ratelimit-remaining-tokens"])
    assert left == 1_000 - 101 - answer.finished.usage.completion_tokens - again.cost


async def test_a_prompt_whose_length_was_never_told_counts_as_it_was_reserved(inference):
    caller = structs.replace(SHOP, quota=Quota(tokens_per_minute=1_000))
    entry = inference.admit(scripted(texts=["a"], fault="hang", after=1), caller)
    async with aclosing(inference.inference.generate(entry)) as events:
        await anext(events)
        assert entry.telemetry.prompt_tokens is None
    again = inference.admit(scripted("s"), caller)
    await collect(inference.inference.generate(again))
    left = int(again.headers["x-ratelimit-remaining-tokens"])
    assert left == 1_000 - prompt_bound(entry.request.prompt) - again.cost


async def test_a_key_has_no_more_at_once_than_it_may(inference):
    async with aclosing(inference.generate(request(model="slow", max_tokens=1), SHOP)) as running:
        await anext(running)
        with pytest.raises(TooManyConcurrent):
            await collect(inference.generate(request(name="s", max_tokens=1), SHOP))


async def test_a_model_of_others_does_not_exist(inference):
    assert (await collect(inference.generate(request(), OTHER))).text == "a b c"
    for name in ("slow", "nope"):
        with pytest.raises(UnknownModel, match=rf"there is no model '{name}' for this key; there is 'echo'$"):
            inference.inference.find(name, OTHER)
    assert inference.inference.find(None, OTHER).card.name == "echo"


async def test_requests_are_their_owners_to_see_and_to_end(inference):
    async with aclosing(inference.generate(request(model="slow", max_tokens=1), SHOP)) as running:
        await anext(running)
        visits = inference.inference.in_flight
        assert visits.seen_by(OTHER) == []
        assert not visits.cancel("r", OTHER)
        assert [visit.phase for visit in visits.seen_by(SHOP)] == ["decode"]
        assert visits.cancel("r", SHOP)
        with pytest.raises(Cancelled):
            await anext(running)
    assert inference.admission.queues["slow"].places.running == 0


async def test_closing_the_stream_gives_the_lease_back(inference):
    hosted = inference.hosting.engines[1]
    async with aclosing(inference.generate(request(model="slow"))) as events:
        await anext(events)
        assert len(hosted.running) == 1
    assert len(hosted.running) == 0
    async with asyncio.timeout(5):
        await hosted.idle.wait()


async def test_an_engine_is_asked_by_its_own_name(inference):
    async with aclosing(inference.generate(request(model="slow"))) as events:
        await anext(events)
        assert [len(hosted.running) for hosted in inference.hosting.engines] == [0, 1, 0]


async def test_each_caller_has_a_prefix_cache_of_its_own(inference):
    asked = []
    engine = inference.hosting.engines[0].engine
    generate = engine.generate
    inference.hosting.engines[0].engine.generate = lambda request: asked.append(request.salt) or generate(request)
    third = structs.replace(SHOP, id="k3", quota=Quota())
    for salt in ("", "own"):
        for caller in (ANONYMOUS, OTHER, third, OTHER):
            await collect(inference.generate(structs.replace(request(), salt=salt), caller))
    assert asked[0] == ""
    assert asked[1] == asked[3]
    assert asked[5] == asked[7]
    assert len(set(asked)) == 6
    assert "own" in asked


async def until(holds):
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it looks at sets no event
            await asyncio.sleep(0)


class Counting:
    """An engine before an echo: it counts what reaches it, and speaks when it may."""

    def __init__(self, hosted):
        self.asked = []
        self.may_speak = asyncio.Event()
        self.may_speak.set()
        self._echo = hosted.engine.generate
        hosted.engine.generate = self.generate

    async def generate(self, request):
        self.asked.append(request)
        async with aclosing(self._echo(request)) as events:
            async for event in events:
                await self.may_speak.wait()
                yield event


@pytest.fixture
def engine(inference):
    return Counting(inference.hosting.engines[0])


def cache_of(inference, asked, caller=ANONYMOUS, policy=CachePolicy.ANY):
    visit = inference.admit(asked, caller, cache_policy=policy)
    return visit, collect(inference.inference.generate(visit))


async def test_the_same_again_is_not_generated_again(inference, engine):
    texts, statuses = [], []
    for _ in range(3):
        visit, answer = cache_of(inference, request(temperature=0.0))
        texts.append((await answer).text)
        statuses.append(visit.headers["x-cache"])
    assert (texts, statuses) == (["a b c"] * 3, ["miss", "hit", "hit"])
    assert len(engine.asked) == 1


async def test_a_hundred_that_ask_the_same_at_once_share_one_generation(inference, engine):
    engine.may_speak.clear()
    visits, answers = zip(*[cache_of(inference, request(name=str(n), seed=7)) for n in range(100)], strict=True)
    tasks = [asyncio.create_task(answer) for answer in answers]
    await until(lambda: len(engine.asked) == 1 and inference.inference.cache.counts.coalesced == 99)
    for task in tasks[:50]:
        task.cancel()
    engine.may_speak.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answer.text for answer in told[50:]] == ["a b c"] * 50
    assert all(isinstance(answer, asyncio.CancelledError) for answer in told[:50])
    assert [visit.headers.get("x-cache") for visit in visits[1:]] == ["coalesced"] * 99
    assert len(engine.asked) == 1


async def test_what_need_not_be_the_same_twice_is_never_kept(inference, engine):
    for _ in range(2):
        visit, answer = cache_of(inference, request(temperature=0.5))
        await answer
        assert "x-cache" not in visit.headers
    assert len(engine.asked) == 2


async def test_two_keys_never_share(inference, engine):
    for name in ("a", "b"):
        visit, answer = cache_of(inference, request(temperature=0.0), structs.replace(OTHER, id=name))
        await answer
        assert visit.headers["x-cache"] == "miss"
    assert len(engine.asked) == 2


async def test_who_wants_no_cache_gets_none(inference, engine):
    for policy, status in (
        (CachePolicy.NO_STORE, None),
        (CachePolicy.ANY, "miss"),
        (CachePolicy.NO_STORE, None),
        (CachePolicy.REFRESH, "miss"),
    ):
        visit, answer = cache_of(inference, request(temperature=0.0), policy=policy)
        await answer
        assert visit.headers.get("x-cache") == status
    assert len(engine.asked) == 4


async def test_a_kept_answer_costs_a_caller_no_tokens(inference):
    caller = structs.replace(OTHER, quota=Quota(tokens_per_minute=1_000))
    used = []
    for _ in range(3):
        visit, answer = cache_of(inference, request(temperature=0.0, max_tokens=3), caller)
        await answer
        used.append(int(visit.headers["x-ratelimit-remaining-tokens"]))
    # A minute's tokens come back all the time, by and by.
    assert used[0] - used[1] >= 5
    assert abs(used[1] - used[2]) <= 1


async def test_a_client_whose_time_is_up_does_not_end_the_answer_of_others(inference, engine):
    engine.may_speak.clear()
    short = asyncio.create_task(collect(inference.generate(request(temperature=0.0), total=0.05)))
    long = asyncio.create_task(collect(inference.generate(request(name="s", temperature=0.0))))
    with pytest.raises(DeadlineExceeded):
        await short
    engine.may_speak.set()
    assert (await long).text == "a b c"
    assert len(engine.asked) == 1


async def test_the_time_until_the_first_token_ends_with_it_also_where_an_answer_is_shared(inference, engine):
    events = inference.generate(request(temperature=0.0), first_token=0.05)
    async with aclosing(events):
        assert type(await anext(events)) is Started
        engine.may_speak.clear()
        rest = asyncio.create_task(anext(events))
        await asyncio.sleep(0.1)
        engine.may_speak.set()
        told = [await rest, *[event async for event in events]]
    assert "".join(event.text for event in told[:-1]) == "a b c"
    assert told[-1].reason is FinishReason.STOP


async def test_who_asked_first_may_be_in_more_of_a_hurry_than_the_others(inference, engine):
    engine.may_speak.clear()
    times = ({"total": 0.05}, {"first_token": 0.05}, {})
    tasks = [
        asyncio.create_task(collect(inference.generate(request(name=str(n), temperature=0.0), **each)))
        for n, each in enumerate(times)
    ]
    for hasty in tasks[:2]:
        with pytest.raises(DeadlineExceeded):
            await hasty
    engine.may_speak.set()
    assert (await tasks[2]).text == "a b c"
    assert len(engine.asked) == 1


async def test_who_will_not_wait_long_in_the_line_is_not_made_to_wait_for_others(inference):
    async with aclosing(inference.generate(request(model="slow", name="holder"))) as holder:
        await anext(holder)
        patient = asyncio.create_task(collect(inference.generate(request(model="slow", name="p", temperature=0.0))))
        await asyncio.sleep(0)
        with pytest.raises(QueueTimeout):
            await collect(inference.generate(request(model="slow", name="q", temperature=0.0), queue=0.05))
        assert not patient.done()
        patient.cancel()


async def test_an_answer_that_nobody_waits_for_is_not_made(inference, engine):
    engine.may_speak.clear()
    tasks = [asyncio.create_task(collect(inference.generate(request(temperature=0.0)))) for _ in range(2)]
    await until(lambda: len(engine.asked) == 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not inference.inference.cache.flights)
    assert not inference.hosting.engines[0].running
    engine.may_speak.set()
    assert (await collect(inference.generate(request(temperature=0.0)))).text == "a b c"


def spent(*entries):
    """The tokens that each request was charged."""
    return [entry.allowance.used for entry in entries]


def whole_cost(entry):
    return prompt_bound(entry.request.prompt)


async def test_a_client_that_leaves_before_the_first_token_pays_for_the_prompt(inference):
    entry = inference.admit(scripted(texts=["a"], prefill=3_600.0), SHOP)
    reading = asyncio.create_task(collect(inference.inference.generate(entry)))
    await until(lambda: entry.phase == "prefill")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert spent(entry) == [whole_cost(entry)]


async def test_a_request_whose_time_is_over_before_the_first_token_pays_for_the_prompt(inference):
    entry = inference.admit(scripted(texts=["a"], prefill=3_600.0), SHOP, timeouts=Timeouts(total=0.05))
    with pytest.raises(DeadlineExceeded):
        await collect(inference.inference.generate(entry))
    assert spent(entry) == [whole_cost(entry)]


async def test_a_client_that_leaves_the_queue_pays_nothing(inference):
    async with aclosing(inference.generate(request(model="slow"))) as holder:
        await anext(holder)
        entry = inference.admit(request(model="slow", name="s"), SHOP)
        waiting = asyncio.create_task(collect(inference.inference.generate(entry)))
        await until(lambda: entry.position is not None)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert spent(entry) == [0]


@pytest.mark.parametrize("fault", ["raise", "bug", "cut"])
async def test_what_an_engine_refuses_or_loses_unread_is_free(inference, fault):
    entry = inference.admit(scripted(texts=["a"], fault=fault, after=-1), SHOP)
    with pytest.raises((EngineError, RuntimeError)):
        await collect(inference.inference.generate(entry))
    assert spent(entry) == [0]


def share(inference, count, **script):
    """Begin to read one shared answer, so many times."""
    asked = structs.replace(scripted(knows_prompt=True, **script), sampling=Sampling(temperature=0.0))
    entries = [inference.admit(structs.replace(asked, id=str(number)), SHARER) for number in range(count)]
    return entries, [asyncio.create_task(collect(inference.inference.generate(entry))) for entry in entries]


SHARER = structs.replace(OTHER, models=None)


async def leave(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_shared_answer_is_paid_by_one_of_those_that_were_given_it(inference):
    entries, readers = share(inference, 3, texts=["a"] * 5)
    usage = (await asyncio.gather(*readers))[0].finished.usage
    assert sorted(spent(*entries)) == [0, 0, usage.prompt_tokens + 5]


async def test_an_answer_whose_first_client_leaves_is_paid_by_the_one_that_stays(inference):
    entries, (leader, follower) = share(inference, 2, texts=["a"] * 10, delay=0.02)
    await until(lambda: entries[1].telemetry.usage.completion_tokens > 1)
    await leave(leader)
    usage = (await follower).finished.usage
    assert spent(*entries) == [0, usage.prompt_tokens + 10]


async def test_an_answer_that_all_leave_is_paid_by_the_last_as_far_as_it_was_made(inference):
    entries, readers = share(inference, 2, texts=["a"] * 10, fault="hang", after=3)
    await until(lambda: all(entry.telemetry.usage.completion_tokens == 3 for entry in entries))
    for reader in readers:
        await leave(reader)
    assert spent(*entries) == [0, entries[0].telemetry.prompt_tokens + 3]


async def test_a_shared_prompt_that_all_leave_unread_is_paid_by_the_last(inference):
    entries, readers = share(inference, 2, texts=["a"], prefill=3_600.0)
    await until(lambda: entries[0].phase == "prefill")
    for reader in readers:
        await leave(reader)
    assert spent(*entries) == [0, whole_cost(entries[0])]


async def test_a_shared_answer_that_waits_for_a_place_costs_nothing(inference):
    async with aclosing(inference.generate(request(model="slow", name="holder"))) as holder:
        await anext(holder)
        entry = inference.admit(request(model="slow", temperature=0.0), SHARER)
        reading = asyncio.create_task(collect(inference.inference.generate(entry)))
        await until(lambda: entry.position is not None)
        await leave(reading)
    assert spent(entry) == [0]


async def test_several_prompts_and_answers_are_one_request_of_the_limits(inference):
    caller = structs.replace(SHOP, quota=Quota(requests_per_minute=1, concurrent=1, tokens_per_day=1_000))
    target = inference.inference.find("echo", caller)
    asked = [request("a b c", name="r", max_tokens=2), request("a b", name="r.1", max_tokens=2)]
    async with inference.inference.hold(caller, target, asked, 2) as allowance:
        for each in asked:
            part = PromptAllowance(allowance)
            for number in range(2):
                one = structs.replace(each, id=f"{each.id}-{number}")
                entry = inference.inference.admit(one, caller, target, Options(), part)
                await collect(inference.inference.generate(entry))
                assert entry.headers["x-ratelimit-remaining-requests"] == "0"
    assert allowance.used == 3 + 2 + 4 * 2


async def test_several_prompts_are_refused_as_one(inference):
    caller = structs.replace(SHOP, quota=Quota(tokens_per_day=20))
    target = inference.inference.find("echo", caller)
    asked = [request("a b c", max_tokens=2)] * 2
    async with inference.inference.hold(caller, target, asked[:1], 3) as allowance:
        assert allowance.used == 0
    with pytest.raises(Unsupported):
        inference.inference.hold(caller, target, [request(logit_bias={1: 1.0})], 2)
    async with inference.inference.hold(caller, target, asked, 2) as allowance:
        with pytest.raises(TokensExceeded):
            await collect(inference.generate(request(max_tokens=2), caller))
