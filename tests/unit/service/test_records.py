"""The record of the last requests: what is in it, its bounds, and where two answers part."""

import tracemalloc

import msgspec
import pytest

from gateway.admission import Admission, Standby
from gateway.auth import ANONYMOUS
from gateway.cache import CachePolicy
from gateway.config import Config, EngineSettings, ReplaySettings, TelemetrySettings
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import (
    Completion,
    Delta,
    Finished,
    FinishReason,
    GenerateRequest,
    ModelCard,
    Sampling,
    Started,
    Usage,
    collect,
)
from gateway.hosting.hosting import Hosting
from gateway.inflight import Options
from gateway.limits import Limiter
from gateway.service import Inference
from gateway.service.records import Parting, RecordedRequest, compare, is_repeatable
from gateway.service.shadow import Recording
from gateway.telemetry import Telemetry

ENGINES = {
    "default": EngineSettings(plugin="scripted", settings={"script": {"texts": ["Once", " upon", " a time."]}}),
    "broken": EngineSettings(plugin="scripted", settings={"model": "broken", "script": {"fault": "bug", "after": 1}}),
}


@pytest.fixture
async def house():
    """Make an inference that records with these settings."""
    telemetry = Telemetry.start(TelemetrySettings(log_level="CRITICAL"))
    async with Hosting(ENGINES, 5.0) as hosting:
        await hosting.settled.wait()

        def make(**settings):
            config = Config(engines=ENGINES, replay=ReplaySettings(**settings))
            return Inference(hosting, Admission(), Limiter(), telemetry, CurrentConfig(Snapshot.of(config)))

        yield make
    await telemetry.stop()


async def ask(inference, name="r", model="scripted", prompt="once", **options):
    asked = GenerateRequest(id=name, model=model, prompt=Completion(prompt), sampling=Sampling(temperature=0.0))
    target = inference.find(model, ANONYMOUS)
    return await collect(inference.generate(inference.admit(asked, ANONYMOUS, target, Options(**options))))


async def test_nothing_is_recorded_by_default(house):
    inference = house()
    await ask(inference)
    assert not inference.records.is_on
    assert len(inference.records) == 0


async def test_a_request_is_found_by_its_id_with_all_its_answers(house):
    inference = house(requests=10)
    for name in ("r.0", "r.1", "other", "r2"):
        await ask(inference, name)
    found = inference.records.find("r")
    assert [record.id for record in found] == ["r.0", "r.1"]
    assert found[0].request.prompt == Completion("once")
    assert (found[0].model, found[0].is_repeatable) == ("scripted", True)
    assert found[0].answered.text == "Once upon a time."
    assert found[0].fingerprint.startswith("fp_")


async def test_an_answer_of_the_cache_is_recorded_too(house):
    inference = house(requests=10)
    await ask(inference, "a")
    await ask(inference, "b")
    assert inference.records.find("b")[0].answered.text == inference.records.find("a")[0].answered.text


async def test_neither_a_replay_nor_a_line_of_a_batch_is_recorded(house):
    inference = house(requests=10)
    await ask(inference, is_recorded=False, cache_policy=CachePolicy.NO_STORE)
    await ask(inference, standby=Standby(give_way=lambda: None))
    assert len(inference.records) == 0


async def test_an_answer_that_broke_is_recorded_as_far_as_it_went(house):
    inference = house(requests=10)
    with pytest.raises(RuntimeError, match="the script says so"):
        await ask(inference, model="broken")
    (record,) = inference.records.find("r")
    assert record.answered.finished is None


async def test_the_oldest_go_by_number(house):
    inference = house(requests=2)
    for name in ("a", "b", "c"):
        await ask(inference, name)
    assert [bool(inference.records.find(name)) for name in ("a", "b", "c")] == [False, True, True]


async def test_the_oldest_go_by_bytes_and_one_too_large_is_not_kept(house):
    inference = house(requests=100, max_bytes=4_096)
    for at in range(20):
        await ask(inference, f"r{at}")
    assert 1 < len(inference.records) < 20
    assert 0 < inference.records.size <= 4_096
    kept = len(inference.records)
    await ask(inference, "large", prompt="x" * 5_000)
    assert inference.records.find("large") == []
    assert len(inference.records) == kept


@pytest.mark.parametrize(
    ("text", "pieces", "number"), [("a", 1, 2_000), ("\U0001f600" * 200, 100, 40), ("\u4f60", 200, 40)]
)
async def test_what_is_kept_takes_no_more_memory_than_is_allowed(house, text, pieces, number):
    records = house(requests=10_000).records
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(number):
            made = recording(*(f"{text}{piece % 7}" for piece in range(pieces)))
            asked = msgspec.msgpack.encode(GenerateRequest(id=f"r{at}", model="m", prompt=Completion("a")))
            records.keep(RecordedRequest(f"r{at}", "key", "m", asked, made, None, is_repeatable=True, created=at))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 < taken / records.size < 1.05


def recording(*texts, finished=True):
    made = Recording()
    made.add(Started(1))
    for text in texts:
        made.add(Delta(text))
    if finished:
        made.add(Finished(FinishReason.STOP, Usage(1, len(texts))))
    return made


@pytest.mark.parametrize(
    ("then", "now", "parting"),
    [
        (recording("Once", " upon"), recording("Once", " upon"), None),
        (recording("Once", " upon"), recording("Once upon"), None),
        (recording("Once", " upon"), recording("Once", " again"), Parting(5, 1)),
        (recording("Once", " upon"), recording("Once"), Parting(4, 1)),
        (recording("Once"), recording("Once", " upon"), Parting(4, 1)),
        (recording("Once", finished=False), recording("Once", " upon"), None),
        (recording("Once", " up", finished=False), recording("Once", " a"), Parting(5, 1)),
        (recording("Once", " up", finished=False), recording("Once"), Parting(4, 1)),
    ],
)
def test_where_two_answers_part(then, now, parting):
    assert compare(then, now) == parting


@pytest.mark.parametrize(
    ("asked", "defaults", "own", "repeats"),
    [
        ({}, {}, {}, False),
        ({"temperature": 0.0}, {}, {"temperature": 1.0}, True),
        ({"temperature": 0.7}, {}, {"temperature": 0.0}, False),
        ({"temperature": 0.7, "seed": 3}, {}, {}, True),
        ({}, {"temperature": 0.0}, {"temperature": 1.0}, True),
        ({}, {}, {"temperature": 0.0}, True),
    ],
)
def test_what_repeats_is_drawn_by_the_likeliest_tokens_or_with_a_seed(asked, defaults, own, repeats):
    request = GenerateRequest(
        id="r", model="m", prompt=Completion("a"), sampling=Sampling(**asked), defaults=Sampling(**defaults)
    )
    card = ModelCard(name="m", context_window=9, capabilities=frozenset(), defaults=Sampling(**own))
    assert is_repeatable(request, card) == repeats
