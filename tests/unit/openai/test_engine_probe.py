"""A light question finds out whether the server can be asked, without a request that costs."""

import asyncio
from contextlib import aclosing

import pytest

from gateway.engine import Completion, GenerateRequest
from gateway_openai import Settings, build
from tests.support.scripted_upstream import HEAD, Script, behind, said, whole

REQUEST = GenerateRequest(id="1", model="m", prompt=Completion("x"))


@pytest.mark.parametrize(
    ("status", "is_there"),
    [("200 OK", True), ("401 Unauthorized", True), ("404 Not Found", True), ("429 Too Many", True), ("503 No", False)],
)
async def test_a_server_that_answers_is_there_unless_it_fails(status, is_there):
    script = Script(whole(status, b"{}"))
    async with behind(script) as engine:
        assert await engine.probe() is is_there
    assert script.heads[0].startswith(b"GET /v1/models ")


async def test_a_server_that_is_away_hangs_up_or_keeps_still_is_not_there(monkeypatch):
    monkeypatch.setattr("gateway_openai.engine._PROBE_SECONDS", 0.2)
    async with asyncio.timeout(60):
        for script, settings in (
            (Script(), {"base_url": "http://127.0.0.1:1/v1"}),
            (Script(), {}),
            (Script(still=True), {}),
        ):
            async with behind(script, **settings) as engine:
                assert await engine.probe() is False
    assert await build(Settings(base_url="http://127.0.0.1:1/v1")).probe() is False


async def test_a_server_whose_connections_are_all_in_use_is_not_asked():
    script = Script(HEAD + said("a"), still=True)
    async with behind(script, places=1) as engine, aclosing(engine.generate(REQUEST)) as stream:
        await anext(stream)
        assert await engine.probe() is None
        assert len(script.heads) == 1
