"""One look at a running gateway: how it is, what it is at, and what happened since the look before."""

import time
from typing import Any

import httpx
from msgspec import Struct

from gateway.cli.client import GatewayClient, GatewaySaysNo, reason
from gateway.cli.scrape import Rates, Scrape


class EngineLook(Struct, frozen=True):
    """One engine; memory in bytes, `None` where it is not known, as for one in the worker."""

    engine: str
    model: str | None
    status: str
    detail: str
    running: int
    waiting: int
    breaker: str
    memory: float | None
    cached_tokens: float | None


class Look(Struct, frozen=True):
    """What one look found. `rates` are `None` at the first; `notes` say what the key may not see."""

    time: float
    url: str
    status: str
    detail: str
    version: str
    uptime: float
    rates: Rates | None
    engines: list[EngineLook]
    requests: list[dict[str, Any]]
    notes: list[str]


class Looker:
    """Looks again and again."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client
        self._before: Scrape | None = None

    def look(self) -> Look:
        """Look once. Raise what a server raises that is away, or is no gateway."""
        health = self._health()
        notes: list[str] = []
        scrape = self._scrape(notes)
        try:
            requests = list(self._client.ask("/v1/requests")["data"])
        except GatewaySaysNo as error:
            requests = []
            notes.append(f"no requests: {error}")
        rates = scrape.since(self._before) if scrape is not None and self._before is not None else None
        self._before = scrape
        return Look(
            time=round(time.time(), 3),
            url=self._client.url,
            status=health["status"],
            detail=health["detail"],
            version=health["version"],
            uptime=health["uptime"],
            rates=rates,
            engines=[_to_engine(engine, scrape or Scrape()) for engine in health["engines"]],
            requests=requests,
            notes=notes,
        )

    def _health(self) -> dict[str, Any]:
        answer = self._client.http.get("/v1/health")  # 503 while it is not ready
        health = answer.json()
        if "engines" not in health:
            raise GatewaySaysNo(reason(answer))
        return dict(health)

    def _scrape(self, notes: list[str]) -> Scrape | None:
        answer = self._client.http.get("/metrics", headers={"accept": "text/plain"})
        if answer.is_error:
            why = "its metrics are turned off" if answer.status_code == httpx.codes.NOT_FOUND else reason(answer)
            notes.append(f"no rates and no memory: {why}")
            return None
        return Scrape.of(answer.text)


def _to_engine(health: dict[str, Any], scrape: Scrape) -> EngineLook:
    name = health["engine"]
    return EngineLook(
        engine=name,
        model=health["model"],
        status=health["status"],
        detail=health["detail"],
        running=health["running"],
        waiting=health["waiting"],
        breaker=health["breaker"],
        memory=scrape.by("engine", "llm_gateway_engine_memory_bytes").get(name),
        cached_tokens=scrape.by("engine", "llm_gateway_kv_cache_used_tokens").get(name),
    )
