"""Measure what each dialect costs: processor time in the worker per streamed token, and whole answers a second.

    just dialects [--rounds 5]

The engine is an echo in the worker, which says a word as soon as it may; what it costs by itself, on the same kind of
loop, is measured too and taken off. A token costs the difference between streams of a thousand tokens and of one. Words
that come at once share frames; another service says one each twentieth of a second, so that each has a frame and a
wake of its own.
Whole answers are compared with a bare Litestar handler on the same server, which decodes the same body and encodes the
same reply, by turns. A token is the least of the rounds, whole answers are their median.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvloop

from gateway.engine import Completion, GenerateRequest, collect, load
from tests.support.rawhttp import RawHTTP, connected, post
from tests.support.service import Service, free_port

TOKENS = 1_000
CLIENTS = 8
SECONDS = 1.5
LONG, SHORT = "word " * TOKENS, "word"
# For words that come one by one, in streams enough that the worker has something to do.
PACED, STREAMS, DELAY = 64, 32, 0.05
MODEL = "echo"
ECHOED = GenerateRequest(id="a", model=MODEL, prompt=Completion(LONG))
BARE = """
import msgspec
from litestar import Litestar, Request, Response, post

from gateway.api.openai.operation import CHAT_ANSWERED
from gateway.api.openai.schema import chat_decoder

encode = msgspec.json.Encoder().encode


@post("/v1/chat/completions", status_code=200)
async def answer(request: Request) -> Response[bytes]:
    chat_decoder.decode(await request.body())
    return Response(encode(CHAT_ANSWERED), media_type="application/json")


app = Litestar([answer], openapi_config=None)
"""


def asked(path: str, text: str, *, stream: bool) -> bytes:
    """Write the request of a dialect."""
    messages = [{"role": "user", "content": text}]
    bodies = {
        "/v1/generate": {"prompt": text, "return_full_text": False, "max_new_tokens": TOKENS},
        "/v1/completions": {"prompt": text, "max_tokens": TOKENS},
        "/v1/chat/completions": {"messages": messages},
        "/v1/messages": {"messages": messages, "max_tokens": TOKENS, "model": MODEL},
    }
    return post(bodies[path] | {"stream": stream}, path=path)


PATHS = ("/v1/generate", "/v1/completions", "/v1/chat/completions", "/v1/messages")


def together(port: int, message: bytes, clients: int) -> None:
    """Send one message over each of so many connections at once, and read all answers to their ends."""

    def read() -> None:
        with RawHTTP(port) as connection:
            answer = connection.send(message).answer()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {answer.body[:200]!r}")

    threads = [threading.Thread(target=read) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def processor_seconds(process: psutil.Process) -> float:
    """Read what all threads of a process have run, from the scheduler: `cpu_times` counts in hundredths of a second."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def spent(worker: psutil.Process, port: int, message: bytes, clients: int) -> float:
    """Return the processor seconds that the worker takes for one round of answers."""
    before = processor_seconds(worker)
    together(port, message, clients)
    return processor_seconds(worker) - before


def per_token(service: Service, path: str, rounds: int, tokens: int = TOKENS, clients: int = CLIENTS) -> float:
    """Return the microseconds of a streamed token."""
    worker, port = worker_of(service), service.port
    long, short = (asked(path, text, stream=True) for text in ("word " * tokens, SHORT))
    together(port, long, clients)
    found = [spent(worker, port, long, clients) - spent(worker, port, short, clients) for _ in range(rounds)]
    return min(found) / (clients * (tokens - 1)) * 1e6


def per_paced_token(path: str, rounds: int) -> float:
    """Return the microseconds of a streamed token that comes alone, in a frame of its own."""
    settings = json.dumps({"places": STREAMS, "delay": DELAY})
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS=settings) as service:
        return per_token(service, path, rounds, PACED, STREAMS)


def per_joined_token(path: str, rounds: int) -> float:
    """Return the microseconds of a streamed token of an engine that says all at once."""
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__CONTEXT_WINDOW="8192") as service:
        return per_token(service, path, rounds)


def echo_alone() -> float:
    """Return the microseconds that a token costs the echo by itself, eight answers side by side."""

    async def answer() -> float:
        plugin = load("echo")
        async with plugin.build(plugin.settings(context_window=8192)) as engine:
            begun = time.process_time()
            await asyncio.gather(*[collect(engine.generate(ECHOED)) for _ in range(CLIENTS)])
            return time.process_time() - begun

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return min(runner.run(answer()) for _ in range(5)) / (CLIENTS * TOKENS) * 1e6


def rate(port: int, message: bytes) -> float:
    """Return the whole answers a second that eight clients get."""
    until = time.perf_counter() + SECONDS
    answered = [0] * CLIENTS

    def ask(number: int) -> None:
        with connected(port) as connection:
            while time.perf_counter() < until:
                connection.send(message).answer()
                answered[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered) / SECONDS


@contextmanager
def bare() -> Iterator[int]:
    """Serve the bare handler; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--no-ws", "--port", str(port), "bare:app"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bare.py").write_text(BARE)
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                yield port
            finally:
                server.terminate()


def worker_of(service: Service) -> psutil.Process:
    """Find the process that answers: the last of the line of children."""
    process = psutil.Process(service.process.pid)
    while children := process.children():
        process = children[-1]
    return process


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__CONTEXT_WINDOW="8192") as service, bare() as port:
        echo = echo_alone()
        print(f"the echo alone           {echo:6.1f} µs a token")
        served = json.loads(service.client.get("/schema/openapi.json").text)["paths"]
        for path in [path for path in PATHS if path in served]:
            token = per_token(service, path, rounds)
            print(f"{path:24} {token:6.1f} µs a streamed token, {token - echo:.1f} without the echo")
        message = asked("/v1/chat/completions", SHORT, stream=False)
        connected(port).__exit__()
        pairs = [(rate(service.port, message), rate(port, message)) for _ in range(rounds)]
        ours, theirs = (statistics.median(found) for found in zip(*pairs, strict=True))
        print(f"/v1/chat/completions     {ours:6.0f} whole answers a second; a bare handler {theirs:.0f}")
        print(f"                         {ours / theirs:6.0%} of it")
    print(f"one by one               {per_paced_token(PATHS[0], rounds):6.1f} µs a streamed token of {PATHS[0]}")


if __name__ == "__main__":
    main()
