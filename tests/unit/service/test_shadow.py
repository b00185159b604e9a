"""A share of a route's requests is asked of a further engine too: only metrics know, and it is the first to go."""

import asyncio

import pytest

from gateway.admission import Admission
from gateway.auth import ANONYMOUS
from gateway.cache.settings import CacheSettings
from gateway.config import Config, EngineSettings, RouteSettings, ShadowSettings, TelemetrySettings
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import Completion, Delta, Finished, FinishReason, GenerateRequest, Started, Usage, collect
from gateway.hosting.hosting import Hosting
from gateway.hosting.route import Target
from gateway.inflight import Options
from gateway.limits import Limiter
from gateway.service import Inference
from gateway.service.shadow import Recording, diverges_at
from gateway.telemetry import Telemetry


def engine(name, places=8, **script):
    settings = {"model": name, "places": places, "script": {"texts": ["Once", " upon", " a time."]} | script}
    return EngineSettings(plugin="scripted", settings=settings)


ENGINES = {
    "first": engine("first"),
    "twin": engine("twin"),
    "other": engine("other", texts=["Once", " upon", " a hill."]),
    "down": engine("down", fault="raise", code="upstream_unavailable", after=-1),
    "slow": engine("slow", places=1, fault="hang", after=1),
    "bug": engine("bug", fault="bug", after=1),
}


def route(name, at_once=1):
    return RouteSettings(engines=("first",), shadow=ShadowSettings(engine=name, share=1.0, at_once=at_once))


ROUTES = {name: route(name) for name in ENGINES} | {"slows": route("slow", at_once=3)}


@pytest.fixture
async def inference():
    telemetry = Telemetry.start(TelemetrySettings(log_level="CRITICAL"))
    config = Config(engines=ENGINES, routes=ROUTES, cache=CacheSettings(enabled=True))
    async with Hosting(ENGINES, 5.0) as hosting:
        await hosting.settled.wait()
        made = Inference(hosting, Admission(), Limiter(), telemetry, CurrentConfig(Snapshot.of(config)))
        yield made
        await made.maker.shadows.end()
    await telemetry.stop()


def admitted(inference, name):
    asked = GenerateRequest(id="r", model=name, prompt=Completion("once"))
    target = inference.choose(inference.find(name, ANONYMOUS), [asked])
    return inference.admit(asked, ANONYMOUS, target, Options())


def answers(inference, name):
    return collect(inference.generate(admitted(inference, name)))


def results(inference):
    return dict(inference._telemetry.metrics.shadows._numbers)


async def until(holds):
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("name", "result"),
    [("twin", "same"), ("other", "text"), ("down", "upstream_unavailable"), ("bug", "engine_error")],
)
async def test_a_copy_is_compared_and_its_caller_learns_nothing(inference, name, result):
    alone, entry = admitted(inference, "first"), admitted(inference, name)
    answer = await collect(inference.generate(entry))
    await inference.maker.shadows.wait()
    assert answer.text == "Once upon a time."
    assert results(inference) == {(name, result): 1}
    await collect(inference.generate(alone))
    assert entry.headers.keys() == alone.headers.keys()
    assert entry.headers["x-engine"] == "first"
    assert answer.started.model is None


async def test_how_far_the_texts_agree_and_how_long_both_took_is_measured(inference):
    await answers(inference, "other")
    await inference.maker.shadows.wait()
    scrape = inference._telemetry.metrics.render()[0]
    assert b'llm_gateway_shadow_divergence_sum{engine="other"} 2.0' in scrape
    assert b'llm_gateway_shadow_duration_seconds_count{answer="copy",engine="other"} 1.0' in scrape
    assert b'llm_gateway_shadow_duration_seconds_count{answer="answer",engine="other"} 1.0' in scrape


async def test_no_more_copies_are_made_at_once_than_may_be(inference):
    for _ in range(3):
        await answers(inference, "slow")
    await until(lambda: inference._admission.queues["slow"].places.running == 1)
    assert results(inference) == {("slow", "dropped"): 2}


async def test_an_engine_without_a_free_place_gets_no_copy(inference):
    await answers(inference, "slows")
    await until(lambda: inference._admission.queues["slow"].places.running == 1)
    await answers(inference, "slows")
    assert results(inference) == {("slow", "dropped"): 1}


async def test_a_copy_gives_way_to_a_request_that_waits_for_its_place(inference):
    texts = ["x"] * 2_000
    await inference._hosting.reload(ENGINES | {"slow": engine("slow", places=1, texts=texts, delay=0.01)})
    await until(lambda: inference._hosting.directory.named("slow").is_up)
    await answers(inference, "slow")
    await until(lambda: inference._admission.queues["slow"].places.running == 1)
    asked = GenerateRequest(id="r", model="slow", prompt=Completion("once"))
    hosted = inference._hosting.directory.named("slow")
    entry = inference.admit(asked, ANONYMOUS, Target(hosted, hosted.cards[0]), Options())
    events = inference.generate(entry)
    async with asyncio.timeout(60):
        assert isinstance(await anext(events), Started)
    await events.aclose()
    assert results(inference) == {("slow", "dropped"): 1}


async def test_a_drain_ends_copies_at_once(inference):
    await answers(inference, "slow")
    await until(lambda: inference._admission.queues["slow"].places.running == 1)
    async with asyncio.timeout(60):
        await inference.drain()
    assert results(inference) == {("slow", "dropped"): 1}
    assert inference._admission.queues["slow"].places.running == 0


async def test_what_a_copy_takes_is_charged_to_nobody_and_kept_nowhere(inference):
    await answers(inference, "twin")
    await inference.maker.shadows.wait()
    assert inference.in_flight.seen_by(ANONYMOUS) == []
    assert inference.cache.counts.stores == 0
    scrape = inference._telemetry.metrics.render()[0]
    assert b'llm_gateway_tokens_generated_total{model="first"} 3.0' in scrape
    assert b'llm_gateway_tokens_generated_total{model="twin"}' not in scrape


async def test_the_share_decides_how_many_are_copied(inference, monkeypatch):
    draws = iter([0.5, 0.4])
    monkeypatch.setattr("gateway.service.shadow.random.random", lambda: next(draws))
    settings = ShadowSettings(engine="twin", share=0.45)
    assert not inference.maker.shadows.draw(settings)
    assert inference.maker.shadows.draw(settings)


def recording(*pieces):
    made = Recording()
    made.add(Started(1))
    for piece in pieces:
        made.add(Delta(*piece) if isinstance(piece, tuple) else Delta(piece))
    made.add(Finished(FinishReason.STOP, Usage(1, len(pieces))))
    return made


@pytest.mark.parametrize(
    ("first", "second", "tokens"),
    [
        (("a", "b"), ("ab",), None),
        (("a", "b"), ("a", "c"), 1),
        (("a", "b"), ("a", "b", "c"), 2),
        (("a", "b", "c"), ("a",), 1),
        ((("abc", 3), "d"), ("abx",), 0),  # three tokens in one piece: which of them is not known
        ((), ("a",), 0),
    ],
)
def test_the_first_token_that_differs_is_found(first, second, tokens):
    assert diverges_at(recording(*first), recording(*second)) == tokens
