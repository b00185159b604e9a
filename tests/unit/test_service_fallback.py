"""A request that comes by a route is answered by the first of its engines that can."""

import asyncio

import pytest

from gateway.admission import Admission
from gateway.auth import ANONYMOUS
from gateway.cache.settings import CacheSettings
from gateway.config import Config, EngineSettings, RouteSettings, TelemetrySettings
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import Completion, EngineError, GenerateRequest, Overloaded, Sampling, UpstreamFailed, collect
from gateway.hosting.hosting import Hosting
from gateway.inflight import Options
from gateway.limits import Limiter
from gateway.service import Inference
from gateway.telemetry import Telemetry


def engine(name, **script):
    return EngineSettings(plugin="scripted", settings={"model": name, "script": {"texts": [f"by {name}"]} | script})


def failing(name, code, after=-1):
    return engine(name, fault="raise", code=code, after=after)


ENGINES = {
    "good": engine("good"),
    "full": failing("full", "overloaded"),
    "down": failing("down", "upstream_unavailable"),
    "wrong": failing("wrong", "invalid_value"),
    "torn": failing("torn", "upstream_unavailable", 1),
    "slow": engine("slow", fault="hang", after=-1),
    "small": failing("small", "context_length_exceeded"),
}
ROUTES = {
    "one-is-full": ("full", "good"),
    "two-are-down": ("down", "full", "good"),
    "all-are-down": ("down", "full"),
    "wrong-is-wrong": ("wrong", "good"),
    "begun-is-begun": ("torn", "good"),
    "as-small": ("small", "good"),
    "slow-first": RouteSettings(engines=("slow", "good"), try_seconds=0.05),
    "alone": RouteSettings(engines=("down", "good"), fallback=False),
}


@pytest.fixture
async def inference():
    telemetry = Telemetry.start(TelemetrySettings(log_level="CRITICAL"))
    config = Config(engines=ENGINES, routes=ROUTES, cache=CacheSettings(enabled=True))
    async with Hosting(ENGINES, 5.0) as hosting:
        await hosting.settled.wait()
        yield Inference(hosting, Admission(), Limiter(), telemetry, CurrentConfig(Snapshot.of(config)))
    await telemetry.stop()


def admitted(inference, route, **sampling):
    asked = GenerateRequest(id="r", model=route, prompt=Completion("once"), sampling=Sampling(**sampling))
    target = inference.choose(inference.find(route, ANONYMOUS), [asked])
    return inference.admit(asked, ANONYMOUS, target, Options())


@pytest.mark.parametrize(
    ("route", "name", "why"),
    [
        ("one-is-full", "good", "overloaded"),
        ("two-are-down", "good", "upstream_unavailable"),
        ("slow-first", "good", "upstream_unavailable"),
        ("good", None, None),
    ],
)
async def test_the_next_engine_answers_where_the_first_does_not(inference, route, name, why):
    entry = admitted(inference, route)
    answer = await collect(inference.generate(entry))
    assert answer.text == "by good"
    assert answer.started.model == name
    assert entry.headers.get("x-engine") == name
    assert entry.headers.get("x-fallback") == why


@pytest.mark.parametrize(
    ("route", "error", "name"),
    [
        ("all-are-down", Overloaded, "full"),
        ("wrong-is-wrong", EngineError, "wrong"),
        ("begun-is-begun", UpstreamFailed, "torn"),
        ("as-small", EngineError, "small"),
        ("alone", UpstreamFailed, "down"),
    ],
)
async def test_an_error_that_no_other_engine_mends_is_told(inference, route, error, name):
    entry = admitted(inference, route)
    with pytest.raises(error):
        await collect(inference.generate(entry))
    assert entry.headers["x-engine"] == name


async def test_what_was_taken_over_is_measured(inference):
    for _ in range(3):
        await collect(inference.generate(admitted(inference, "one-is-full")))
    scrape, _ = inference._telemetry.metrics.render()
    assert b'llm_gateway_fallbacks_total{model="full",reason="overloaded"} 3.0' in scrape
    assert b'llm_gateway_try_duration_seconds_count{engine="full",reason="overloaded"} 3.0' in scrape
    assert b'llm_gateway_try_duration_seconds_count{engine="good",reason=""} 3.0' in scrape
    assert b'llm_gateway_active_requests{model="full"} 0.0' in scrape
    assert b'llm_gateway_active_requests{model="good"} 0.0' in scrape


async def test_another_engines_answer_is_not_kept_as_that_of_the_first(inference):
    statuses = []
    for route in ("good", "good", "one-is-full", "one-is-full"):
        entry = admitted(inference, route, temperature=0.0)
        assert (await collect(inference.generate(entry))).text == "by good"
        statuses.append(entry.headers["x-cache"])
    assert statuses == ["miss", "hit", "miss", "miss"]


async def test_an_engine_that_is_away_is_passed_over(inference):
    await inference._hosting.unload("full")
    entry = admitted(inference, "one-is-full")
    assert (await collect(inference.generate(entry))).text == "by good"
    assert entry.headers["x-fallback"] == "engine_unavailable"


async def test_the_places_of_each_engine_are_free_again(inference):
    for route in ROUTES:
        try:
            await collect(inference.generate(admitted(inference, route)))
        except EngineError:
            continue
    assert [queue.places.running for queue in inference._admission.queues.values()] == [0] * len(ENGINES)
    assert inference.in_flight.seen_by(ANONYMOUS) == []


async def test_one_that_failed_again_and_again_is_passed_over_without_being_asked(inference):
    for _ in range(5):
        await collect(inference.generate(admitted(inference, "two-are-down")))
    queue = inference._admission.queues["down"]
    assert queue.breaker.state == "open"
    entry = admitted(inference, "two-are-down")
    assert entry.target.hosted.name == "full"
    await collect(inference.generate(entry))
    assert entry.headers["x-fallback"] == "engine_unavailable"


async def test_a_slow_engine_is_waited_for_where_no_retry_is_left(inference):
    while inference.maker._retries.spend():
        pass
    entry = admitted(inference, "slow-first")
    task = asyncio.create_task(collect(inference.generate(entry)))
    done, _ = await asyncio.wait({task}, timeout=0.3)
    assert not done
    assert entry.headers["x-engine"] == "slow"
    task.cancel()
    await asyncio.wait({task})
