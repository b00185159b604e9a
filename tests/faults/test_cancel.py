"""A request that is given up at each of its steps, one after another: nothing of it is left at any of them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from gateway.app import create_app
from gateway.config import Config, EngineSettings, LimitsSettings, TelemetrySettings
from gateway.hosting.hosting import Hosting
from gateway.limits import Quota
from gateway.service import Inference

_MOST = 2_000


class Exchange:
    """One request to the application: its client stays until it is told to leave."""

    def __init__(self, app, body: dict) -> None:
        self._app = app
        self._body = json.dumps(body).encode()
        self._is_asked = False
        self.left = asyncio.Event()
        self.sent = b""

    async def receive(self):
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await asyncio.sleep(0)
        self.sent += message.get("body", b"")

    async def run(self):
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        headers.append((b"prefer", b"queue-updates"))
        scope = {"type": "http", "method": "POST", "path": "/v1/generate", "raw_path": b"/v1/generate"}
        scope |= {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 80)}
        scope |= {"scheme": "http", "http_version": "1.1", "asgi": {"version": "3.0"}, "state": {}, "root_path": ""}
        await self._app(scope, self.receive, self.send)


@asynccontextmanager
async def house() -> AsyncGenerator:
    """The application as it runs, with an engine of one place that takes a step for each word."""
    engines = {"default": EngineSettings(plugin="echo", settings={"places": 1, "context_window": 50_000})}
    limits = LimitsSettings(default=Quota(concurrent=1_000))
    app = create_app(Config(engines=engines, limits=limits, telemetry=TelemetrySettings(log_level="CRITICAL")))
    async with app.lifespan():
        hosting, inference = [await app.dependencies[name].dependency() for name in ("hosting", "inference")]
        await hosting.settled.wait()
        yield app, lambda: leftovers(hosting, inference)


def leftovers(hosting: Hosting, inference: Inference) -> dict[str, int]:
    """Count all that a request may hold."""
    hosted = hosting.engines[0]
    found = {
        "leases": len(hosted.running),
        "busy": int(not hosted.idle.is_set()),
        "engine": 1 - hosted.engine._places._value,
        "entries": len(inference.in_flight._entries),
        "quota": sum(len(account.running) for account in inference._limiter._local._accounts.values()),
    }
    for queue in inference._admission.queues.values():
        found |= {"running": queue.places.running, "waiting": queue.waiting, "tokens": queue.places.tokens}
    return found


async def give_up(exchange: Exchange, steps: int, how: str) -> bool:
    """Run a request for so many turns of the loop, then end it; tell whether it had ended by itself."""
    task = asyncio.create_task(exchange.run())
    for _ in range(steps):
        await asyncio.sleep(0)
        if task.done():
            return True
    if how == "cancel":
        task.cancel()
    else:
        exchange.left.set()
    await asyncio.wait({task}, timeout=20)
    assert task.done()
    return False


@pytest.mark.parametrize("how", ["cancel", "leave"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_that_is_given_up_at_any_step_leaves_nothing(how, stream):
    async with house() as (app, held):
        before = len(asyncio.all_tasks())
        for steps in range(_MOST):
            exchange = Exchange(app, {"prompt": "one two three", "stream": stream})
            has_ended = await give_up(exchange, steps, how)
            assert not any(held().values()), f"after {steps} steps: {held()}"
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) <= before + 1, f"after {steps} steps"
            if has_ended:
                break
        assert has_ended
        assert steps > 5
        assert b"three" in exchange.sent


@pytest.mark.parametrize("how", ["cancel", "leave"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_that_is_given_up_in_the_line_leaves_nothing(monkeypatch, how, stream):
    # Who leaves is seen at once: else whoever holds the place would be done before all have left.
    monkeypatch.setattr("gateway.api.http.sse._SOON", 0.0)
    async with house() as (app, held):
        holder = Exchange(app, {"prompt": "word " * 20_000})
        holding = asyncio.create_task(holder.run())
        while not held().get("running"):  # noqa: ASYNC110 - it goes step by step
            await asyncio.sleep(0)
        for steps in range(40):
            assert not await give_up(Exchange(app, {"prompt": "one", "stream": stream}), steps, how)
            found = held()
            assert (found["running"], found["waiting"], found["entries"]) == (1, 0, 1), f"after {steps} steps"
        holding.cancel()
        await asyncio.wait({holding})
        assert not any(held().values())
