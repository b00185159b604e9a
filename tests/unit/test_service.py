"""The rules of a generation, in their order."""

import asyncio
from contextlib import aclosing

import pytest

from gateway.config import Config, EngineSettings, TelemetrySettings
from gateway.engine import (
    Completion,
    DeadlineExceeded,
    FinishReason,
    GenerateRequest,
    Sampling,
    UnknownModel,
    Unsupported,
    collect,
)
from gateway.hosting import Hosting
from gateway.service import Inference
from gateway.telemetry import Telemetry


@pytest.fixture
async def inference():
    """Inference over a quick echo and a slow one."""
    engines = {
        "default": EngineSettings(plugin="echo", settings={}),
        "slow": EngineSettings(plugin="echo", settings={"model": "slow", "delay": 3_600.0, "places": 1}),
    }
    telemetry = Telemetry.start(TelemetrySettings(log_level="CRITICAL"))
    async with Hosting(engines, 5.0) as hosting:
        await hosting.settled.wait()
        yield Inference(hosting, telemetry, Config())
    await telemetry.stop()


def request(text="a b c", *, model="echo", timeout=None, **sampling):
    return GenerateRequest(id="r", model=model, prompt=Completion(text), sampling=Sampling(**sampling), timeout=timeout)


async def test_events_come_through(inference):
    assert (await collect(inference.generate(request()))).text == "a b c"


async def test_an_unknown_model_is_refused(inference):
    with pytest.raises(UnknownModel):
        await collect(inference.generate(request(model="nope")))


async def test_what_the_card_lacks_is_refused_by_name(inference):
    with pytest.raises(Unsupported, match="logit_bias") as raised:
        await collect(inference.generate(request(logit_bias={1: 1.0})))
    assert raised.value.param == "logit_bias"


async def test_time_that_runs_out_after_the_start_is_an_end_with_its_reason(inference):
    answer = await collect(inference.generate(request(model="slow", timeout=0.05)))
    assert answer.finished.reason is FinishReason.DEADLINE
    assert answer.finished.usage.prompt_tokens == 3


async def test_time_that_runs_out_before_the_start_is_an_error(inference):
    async with aclosing(inference.generate(request(model="slow"))) as holder:
        await anext(holder)
        with pytest.raises(DeadlineExceeded):
            await collect(inference.generate(request(model="slow", timeout=0.05)))


async def test_closing_the_stream_gives_the_lease_back(inference):
    seat = inference._hosting.seats[1]
    async with aclosing(inference.generate(request(model="slow"))) as events:
        await anext(events)
        assert len(seat.running) == 1
    assert len(seat.running) == 0
    async with asyncio.timeout(5):
        await seat.idle.wait()


async def test_an_engine_is_asked_by_its_own_name(inference):
    async with aclosing(inference.generate(request(model="slow"))) as events:
        await anext(events)
        assert [len(seat.running) for seat in inference._hosting.seats] == [0, 1]
