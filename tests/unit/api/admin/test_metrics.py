import asyncio

import httpx

from gateway.app import create_app
from gateway.config import Config, EngineSettings, TelemetrySettings


async def test_a_scrape_sees_an_engine_that_broke_though_no_probe_asked():
    engines = {"default": EngineSettings(plugin="scripted", settings={"health": "failed"})}
    app = create_app(Config(engines=engines, telemetry=TelemetrySettings(log_level="CRITICAL")))
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        async with asyncio.timeout(20):
            while not (await client.get("/v1/models")).json()["data"]:  # noqa: ASYNC110 - HTTP tells by asking only
                await asyncio.sleep(0.01)
        assert 'llm_gateway_engine_up{engine="default"} 0.0' in (await client.get("/metrics")).text
