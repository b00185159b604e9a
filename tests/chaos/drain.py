"""Changes while requests run: reloads, and the end."""

import asyncio
import signal
import tempfile
from pathlib import Path

from tests.chaos.client import Result, client, offer
from tests.chaos.row import Row, none_of
from tests.support.service import Service

_SHORT = "one two three"
_LONG = " ".join(f"word{number}" for number in range(100))
_FILE = """
[admission]
waiters_per_place = {waiters}
[engines.default]
plugin = "echo"
settings = {{ delay = 0.02, places = 64 }}
[limits.default]
requests_per_minute = {limit}
"""
_RELOADS = 10
_STREAMS = 20


async def reloads() -> list[Row]:
    """Reload ten times under 100 requests a second and 20 streams."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "gateway.toml")
        file.write_text(_FILE.format(waiters=4, limit=100_000))
        with Service("--config", str(file), LOG_LEVEL="WARNING") as service:
            async with client(service.url) as asker:
                flow = asyncio.create_task(offer(lambda: asker.ask(_SHORT), 100.0, 6.0))
                streams = [asyncio.create_task(asker.ask(_LONG, stream=True)) for _ in range(_STREAMS)]
                for number in range(_RELOADS):
                    await asyncio.sleep(0.5)
                    file.write_text(_FILE.format(waiters=5 + number, limit=100_000 + number))
                    service.process.send_signal(signal.SIGHUP)
                streamed: list[Result] = list(await asyncio.gather(*streams))
                asked = await flow
    return [
        none_of("requests that failed", sum(result.end != "whole" for result in asked), len(asked)),
        none_of("streams that broke", sum(result.text.strip() != _LONG for result in streamed), len(streamed)),
    ]


async def drain() -> list[Row]:
    """Ask the service to end while 50 streams run."""
    with Service(
        LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.02", LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES="64"
    ) as service:
        async with client(service.url) as asker:
            streams = [asyncio.create_task(asker.ask(_LONG, stream=True)) for _ in range(50)]
            await asyncio.sleep(1.0)
            service.process.send_signal(signal.SIGTERM)
            results = list(await asyncio.gather(*streams))
            code = await asyncio.to_thread(service.process.wait, 40)
    return [
        none_of("streams without [DONE]", sum(result.end != "whole" for result in results), len(results)),
        none_of("exit codes other than 0", int(code != 0), 1),
    ]
