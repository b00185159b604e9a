"""Callers and clients that would spoil it for the others."""

import asyncio
import socket
import tempfile
from pathlib import Path

from gateway.auth import KeyFile
from tests.chaos.client import Result, client, offer
from tests.chaos.row import Row, at_most, none_of, percentile
from tests.support.service import Service

_PROMPT = " ".join(f"word{number}" for number in range(10))
_PLACES = 8
_QUIET_RATE = 2.0
_SECONDS = 15.0


async def noisy_neighbour() -> list[Row]:
    """Let one key ask a hundred times as often as another, beyond what the engine can do."""
    with tempfile.TemporaryDirectory() as folder:
        file = KeyFile(Path(folder, "keys.db"))
        _, quiet = file.create("quiet")
        _, noisy = file.create("noisy")
        with Service(
            LLM_GATEWAY__AUTH__FILE=str(Path(folder, "keys.db")),
            LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.02",
            LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES=str(_PLACES),
            LOG_LEVEL="WARNING",
        ) as service:
            async with client(service.url, quiet) as calm, client(service.url, noisy) as loud:
                alone = await offer(lambda: calm.ask(_PROMPT), _QUIET_RATE, _SECONDS)
                flood = asyncio.create_task(offer(lambda: loud.ask(_PROMPT), 100 * _QUIET_RATE, _SECONDS))
                beside = await offer(lambda: calm.ask(_PROMPT), _QUIET_RATE, _SECONDS)
                await flood
    return [
        none_of("the quiet key's requests that failed", _failed(beside), len(beside)),
        at_most("the quiet key's p99, of alone", _p99(beside) / _p99(alone), 1.5, "x"),
    ]


async def slow_clients() -> list[Row]:
    """Hold connections with slow heads, slow bodies and slow reads, while others ask."""
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES="128", LOG_LEVEL="WARNING") as service:
        held = [_dawdle(service.port, kind) for kind in ("head", "body", "read") for _ in range(60)]
        async with client(service.url) as asker:
            drip = asyncio.create_task(_drip(held))
            results = await offer(lambda: asker.ask(_PROMPT), 20.0, 6.0)
            drip.cancel()
        for connection in held:
            connection.close()
    return [none_of("requests that failed beside 180 slow clients", _failed(results), len(results))]


def _dawdle(port: int, kind: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    head = b"POST /v1/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    body = b'{"prompt":"' + b"a " * 2_000 + b'","stream":true}'
    match kind:
        case "head":
            connection.sendall(head)
        case "body":
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        case _:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    connection.setblocking(False)  # noqa: FBT003 - the socket's own way
    return connection


async def _drip(held: list[socket.socket]) -> None:
    while True:
        await asyncio.sleep(0.5)
        for connection in held:
            try:
                connection.send(b" ")
            except OSError:
                continue


def _failed(results: list[Result]) -> int:
    return sum(result.end != "whole" for result in results)


def _p99(results: list[Result]) -> float:
    return percentile([result.seconds for result in results], 0.99)
