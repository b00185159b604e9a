"""More than the engine can do: what still comes out, and how fast the rest is told."""

import asyncio
import time

from tests.chaos.client import Client, Result, client, offer
from tests.chaos.row import Row, at_least, at_most, none_of, percentile
from tests.support.service import Service

_PLACES = 8
_DELAY = 0.02
_WORDS = 20
_PROMPT = " ".join(f"word{number}" for number in range(_WORDS))
_SECONDS = 8.0
_FILL = 2.0
_ENGINE = {
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY": str(_DELAY),
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES": str(_PLACES),
    "LOG_LEVEL": "WARNING",
}


async def overload() -> list[Row]:
    """Offer half, all, twice and ten times of what the engine can do."""
    rows = []
    with Service(ready=True, **_ENGINE) as service:
        async with client(service.url) as asker:
            alone = min([(await asker.ask(_PROMPT)).seconds for _ in range(5)])
            capacity = _PLACES / alone
            for load, goodput in ((0.5, None), (1.0, None), (2.0, 0.95), (10.0, 0.9)):
                rows += await _offer(asker, capacity, load, goodput)
            rows.append(await _recovery(asker, alone))
    return rows


async def _offer(asker: Client, capacity: float, load: float, goodput: float | None) -> list[Row]:
    probes = asyncio.create_task(_probe(asker))
    began = time.monotonic()
    results = await offer(lambda: asker.ask(_PROMPT), load * capacity, _SECONDS)
    probes.cancel()
    alive = await _caught(probes)
    shed = [result for result in results if result.end == "refused"]
    name = f"{load:g}x load: "
    window = (began + _FILL, began + _SECONDS)
    done = sum(result.end == "whole" and window[0] <= result.ended <= window[1] for result in results)
    share = done / (capacity * (window[1] - window[0]))
    rows = [
        none_of(f"{name}connections reset", sum(result.end == "reset" for result in results), len(results)),
        at_most(f"{name}/livez p99", percentile(alive, 0.99) * 1e3, 50, " ms"),
    ]
    if goodput is None:
        return [*rows, none_of(f"{name}turned away", len(shed) if load < 1 else 0, len(results))]
    return [
        *rows,
        at_least(f"{name}goodput of the capacity", share * 100, goodput * 100, " %"),
        at_most(f"{name}time to be turned away, p99", percentile([r.seconds for r in shed], 0.99) * 1e3, 20, " ms"),
        none_of(f"{name}turned away without 503 and Retry-After", sum(map(_is_rude, shed)), len(shed)),
    ]


def _is_rude(result: Result) -> bool:
    return result.status != 503 or result.retry_after is None


async def _recovery(asker: Client, alone: float) -> Row:
    """Say how long after the load a request takes no longer than it did before, and a half."""
    began = time.monotonic()
    while (await asker.ask(_PROMPT)).seconds > 1.5 * alone:
        if time.monotonic() - began > 30:
            break
    return at_most("after 10x load: back to normal within", time.monotonic() - began, 2.0 + alone, " s")


_seen: list[float] = []


async def _probe(asker: Client) -> None:
    _seen.clear()
    while True:
        _, seconds = await asker.probe()
        _seen.append(seconds)
        await asyncio.sleep(0.02)


async def _caught(probes: "asyncio.Task[None]") -> list[float]:
    await asyncio.gather(probes, return_exceptions=True)
    return list(_seen)
