"""A server behind a route that is dead, slow, flapping or talks garbage, while another engine is well."""

import asyncio
import contextlib
import itertools
import time

from tests.chaos.client import Client, Result, client
from tests.chaos.row import Row, at_least, at_most, none_of, percentile
from tests.support.scripted_upstream import GOOD, HEAD, TEXT, whole
from tests.support.service import Service

_CLIENTS = 8  # fewer than the ten retries that come at once
_ROW = 5  # failures that open a breaker: one probe may meet a flapping server while it is well
_SECONDS = 4.0
_TRY_SECONDS = 0.3
_PATIENCE = 90.0
_GARBAGE = (
    whole("200 OK", b"<html>sorry</html>", "content-type: text/html"),
    HEAD + b'data: {"choices": [{"index": 0, "te',
    HEAD + b'data: {"error": {"message": "broken", "code": "internal"}}\n\n',
    whole("500 No", b""),
)


class Moody:
    """A server on one port that does as its mood says, and counts the requests that it did not answer well."""

    def __init__(self) -> None:
        self.mood = "well"
        self.failed = 0
        self.port = 0
        self._garbage = itertools.cycle(_GARBAGE)
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections, again on the same port."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def set_mood(self, mood: str) -> None:
        """Change to another mood; a dead server takes no connections."""
        if mood == "dead" and self._server is not None:
            self._server.close()
        elif self.mood == "dead":
            await self.listen()
        self.mood = mood

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            is_away = self.mood == "flapping" and int(time.monotonic() * 2) % 2
            self.failed += is_away or self.mood in {"slow", "garbage"}
            if self.mood == "slow":
                while await reader.read(65_536):
                    pass
            elif not is_away:
                writer.write(next(self._garbage) if self.mood == "garbage" else GOOD)
                await writer.drain()
        writer.close()


async def upstreams() -> list[Row]:
    """Spoil the first of a route's two engines in four ways, each for some seconds, and let it come back."""
    server = Moody()
    await server.listen()
    remote, spare = "LLM_GATEWAY__ENGINES__REMOTE__", "LLM_GATEWAY__ENGINES__SPARE__"
    route = "LLM_GATEWAY__ROUTES__BOTH__"
    environment = {
        f"{remote}PLUGIN": "openai",
        f"{remote}SETTINGS__BASE_URL": f"http://127.0.0.1:{server.port}/v1",
        f"{remote}SETTINGS__SERVER": "openai",
        f"{remote}SETTINGS__MODELS": '{"m": "m"}',
        f"{spare}PLUGIN": "scripted",
        f"{spare}SETTINGS__MODEL": "spare",
        f"{spare}SETTINGS__SCRIPT__TEXTS": f'["{TEXT}"]',
        f"{route}ENGINES": '["remote", "spare"]',
        f"{route}TRY_SECONDS": str(_TRY_SECONDS),
    }
    service = Service(ENGINE="echo", LOG_LEVEL="ERROR", **environment)
    await asyncio.to_thread(service.__enter__)
    try:
        async with client(service.url) as asker:
            await _until_breaker(service, "closed")
            spoilt = [await _spoil(service, asker, server, mood) for mood in ("dead", "slow", "flapping", "garbage")]
    finally:
        await asyncio.to_thread(service.__exit__)
        server.close()
    return [row for rows in spoilt for row in rows]


async def _spoil(service: Service, asker: Client, server: Moody, mood: str) -> list[Row]:
    results: list[Result] = []
    over = asyncio.Event()
    asking = [asyncio.create_task(_keep_asking(asker, results, over, n % 2 == 0)) for n in range(_CLIENTS)]
    await server.set_mood(mood)
    began = time.monotonic()
    opened = await _until_breaker(service, "open")
    failed = server.failed
    await asyncio.sleep(max(0.0, began + _SECONDS - time.monotonic()))
    again = server.failed - failed
    await server.set_mood("well")
    closed = await _until_breaker(service, "closed")
    over.set()
    await asyncio.gather(*asking)
    lost = sum(result.end != "whole" for result in results)
    wrong = sum(result.end == "whole" and result.text != TEXT for result in results)
    return [
        at_least(f"{mood}: answered", 1 - lost / len(results), 0.999),
        none_of(f"{mood}: answers with a wrong text", wrong, len(results)),
        at_most(f"{mood}: left alone after", opened, 2.0 if mood != "flapping" else _PATIENCE, " s"),
        at_most(
            f"{mood}: requests that it failed in the seconds after",
            again,
            _CLIENTS + (_ROW if mood == "flapping" else 1),
        ),
        at_most(f"{mood}: asked as before, after its return", closed, 21.0, " s"),
        at_most(f"{mood}: seconds of an answer, 99 of 100", percentile([r.seconds for r in results], 0.99), 1.0, " s"),
    ]


async def _keep_asking(asker: Client, results: list[Result], over: asyncio.Event, is_streamed: bool) -> None:  # noqa: FBT001
    while not over.is_set():
        results.append(await asker.ask("Once", stream=is_streamed, model="both"))
        await asyncio.sleep(0.005)


async def _until_breaker(service: Service, state: str) -> float:
    """Wait until the first engine is left alone, or is asked; return the seconds."""
    began = time.monotonic()
    while time.monotonic() < began + _PATIENCE:
        health = (await asyncio.to_thread(service.client.get, "/v1/health")).json()
        found = {each["engine"]: each["breaker"] for each in health["engines"] if each["status"] == "ready"}
        if found.get("remote") == state and "spare" in found:
            break
        await asyncio.sleep(0.05)
    return time.monotonic() - began
