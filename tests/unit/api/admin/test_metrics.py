import asyncio
from contextlib import asynccontextmanager

import httpx

from gateway.app import create_app
from gateway.config import Config, EngineSettings, TelemetrySettings


@asynccontextmanager
async def served(**engines):
    """A client of a service, once every engine of the start has settled."""
    app = create_app(Config(engines=engines, telemetry=TelemetrySettings(log_level="CRITICAL")))
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        async with asyncio.timeout(20):
            while (await client.get("/v1/health")).json()["status"] == "starting":  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.01)
        yield client


async def test_a_model_has_its_series_before_anything_is_asked_of_it():
    async with served(default=EngineSettings(plugin="scripted", settings={"places": 3})) as client:
        page = (await client.get("/metrics")).text
    for name in ("queue_depth", "question_queue_depth", "places_held", "kv_cache_held_tokens"):
        assert f'llm_gateway_{name}{{model="scripted"}} 0.0' in page
    assert 'llm_gateway_breaker_state{upstream="scripted"} 0.0' in page
    assert 'llm_gateway_places{model="scripted"} 3.0' in page


async def test_an_engine_that_is_unloaded_on_purpose_is_not_wanted():
    by_hand = EngineSettings(plugin="scripted", settings={"model": "spare"}, load="never")
    on_demand = EngineSettings(plugin="scripted", settings={"model": "later"}, load="demand")
    broken = EngineSettings(plugin="scripted", settings={"model": "broken", "health": "failed"})
    async with served(default=EngineSettings(plugin="echo"), spare=by_hand, later=on_demand, broken=broken) as client:
        page = (await client.get("/metrics")).text
        for name, is_up, is_wanted in (("default", 1, 1), ("spare", 0, 0), ("later", 1, 1), ("broken", 0, 1)):
            assert f'llm_gateway_engine_up{{engine="{name}"}} {is_up}.0' in page
            assert f'llm_gateway_engine_wanted{{engine="{name}"}} {is_wanted}.0' in page


async def test_a_scrape_sees_an_engine_that_broke_though_no_probe_asked():
    engines = {"default": EngineSettings(plugin="scripted", settings={"health": "failed"})}
    app = create_app(Config(engines=engines, telemetry=TelemetrySettings(log_level="CRITICAL")))
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        async with asyncio.timeout(20):
            while not (await client.get("/v1/models")).json()["data"]:  # noqa: ASYNC110 - HTTP tells by asking only
                await asyncio.sleep(0.01)
        assert 'llm_gateway_engine_up{engine="default"} 0.0' in (await client.get("/metrics")).text
