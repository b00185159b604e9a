"""Measure what the HTTP path adds to an engine: the same echo, asked directly and over HTTP, by turns in one run.

    just overhead [--rounds 2000] [--with-litellm]

Prints medians in milliseconds; for scale, those of an application of five lines on the same server, and of `/livez`,
the smallest answer behind the whole edge. Then come the figures of an engine with a server behind it (`upstream.py`).
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from gateway.engine import Completion, Engine, GenerateRequest, Sampling, collect, load
from tests.load.upstream import measure_upstream
from tests.support.rawhttp import RawHTTP, connected, post, request
from tests.support.service import Service, free_port

PROMPT = "the quick brown fox jumps over the lazy dog " * 2
TOKENS = 16
WHOLE = post({"prompt": PROMPT, "max_new_tokens": TOKENS})
HIT = post({"prompt": PROMPT, "max_new_tokens": TOKENS, "temperature": 0})
STREAM = post({"prompt": PROMPT, "max_new_tokens": TOKENS, "stream": True})
REQUEST = GenerateRequest(id="a", model="echo", prompt=Completion(PROMPT), sampling=Sampling(max_tokens=TOKENS))
BARE = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""


async def medians(asks: dict[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, float]:
    """Ask by turns, so that all suffer alike from a busy machine; return each median in milliseconds."""
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            seconds[name].append(await ask())
    return {name: statistics.median(taken[rounds // 10 :]) * 1e3 for name, taken in seconds.items()}


def asks(engine: Engine, bare: RawHTTP, alive: RawHTTP, whole: RawHTTP, stream: RawHTTP):
    async def engine_whole() -> float:
        begun = time.perf_counter()
        await collect(engine.generate(REQUEST))
        return time.perf_counter() - begun

    async def engine_first() -> float:
        begun = time.perf_counter()
        async with aclosing(engine.generate(REQUEST)) as events:
            await anext(events)
            return time.perf_counter() - begun

    def answer(connection: RawHTTP, message: bytes):
        async def ask() -> float:
            begun = time.perf_counter()
            connection.send(message).answer()
            return time.perf_counter() - begun

        return ask

    async def first_frame() -> float:
        begun = time.perf_counter()
        stream.send(STREAM).read_until(b"data: ")
        taken = time.perf_counter() - begun
        for mark in (b"[DONE]", b"\r\n0\r\n", b"\r\n"):
            stream.read_until(mark)
        return taken

    return {
        "engine, whole": engine_whole,
        "engine, first event": engine_first,
        "granian alone": answer(bare, WHOLE),
        "GET /livez": answer(alive, request()),
        "POST /v1/generate, whole": answer(whole, WHOLE),
        "POST /v1/generate, a cache hit": answer(whole, HIT),
        "POST /v1/generate, first frame": first_frame,
    }


@contextmanager
def bare_granian() -> Iterator[int]:
    """Serve an application of five lines; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--no-ws", "--port", str(port), "bare:app"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bare.py").write_text(BARE)
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                yield port
            finally:
                server.terminate()


async def measure(rounds: int) -> dict[str, float]:
    """Start both servers and the engine, and ask them."""
    plugin = load("echo")
    with (
        Service() as service,
        bare_granian() as bare_port,
        connected(bare_port) as bare,
        RawHTTP(service.port) as alive,
        RawHTTP(service.port) as whole,
        RawHTTP(service.port) as stream,
    ):
        async with plugin.build(plugin.settings()) as engine:
            return await medians(asks(engine, bare, alive, whole, stream), rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2_000)
    parser.add_argument("--with-litellm", action="store_true", help="measure LiteLLM's proxy beside the engine openai")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.rounds))
    for name, milliseconds in found.items():
        print(f"{name:32} {milliseconds:7.3f} ms")
    whole = found["POST /v1/generate, whole"] - found["engine, whole"]
    first = found["POST /v1/generate, first frame"] - found["engine, first event"]
    print(f"over the engine: {whole:.3f} ms for a whole answer, {first:.3f} ms for the first frame")
    measure_upstream(arguments.rounds, with_litellm=arguments.with_litellm)


if __name__ == "__main__":
    main()
