"""Count the Python calls that one whole chat answer of the echo engine takes, in this process and without granian.

    python -m tests.load.calls [--rows 30]

Prints the calls of functions of the gateway and of all, how many functions and files they are in, the microseconds of
a request (the least of several rounds, nothing else counted), and the functions that are called most.
"""

import argparse
import asyncio
import collections
import json
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import gateway
from gateway.app import create_app
from gateway.config import Config, EngineSettings, TelemetrySettings

ROOT = Path(gateway.__file__).parent.parent
BODY = json.dumps({"messages": [{"role": "user", "content": "one two three"}], "temperature": 0.5}).encode()
HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json")]
SCOPE = {
    "type": "http", "method": "POST", "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions",
    "query_string": b"", "client": ("127.0.0.1", 1), "server": ("localhost", 80), "scheme": "http",
    "http_version": "1.1", "asgi": {"version": "3.0"}, "root_path": "",
}  # fmt: skip


async def ask(app) -> bytes:
    """Send one request through the application, and return the body of its answer."""
    body, left = bytearray(), [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive():
        return left.pop() if left else await asyncio.get_running_loop().create_future()

    async def send(message):
        body.extend(message.get("body", b""))

    await app({**SCOPE, "headers": list(HEADERS), "state": {}}, receive, send)
    return bytes(body)


@asynccontextmanager
async def running():
    """Enter the application with an echo in this process."""
    config = Config(
        engines={"default": EngineSettings(plugin="echo")}, telemetry=TelemetrySettings(log_level="CRITICAL")
    )
    app = create_app(config)
    async with app.lifespan():
        hosting = await app.dependencies["hosting"].dependency()
        await hosting.settled.wait()
        yield app


async def count(app) -> collections.Counter:
    """Count the calls of one request, by file and function."""
    calls: collections.Counter = collections.Counter()

    def profile(frame, event, _):
        if event == "call":
            calls[frame.f_code.co_filename, frame.f_code.co_qualname] += 1

    for _ in range(5):
        await ask(app)
    sys.setprofile(profile)
    await ask(app)
    sys.setprofile(None)
    return calls


async def measure(app, rounds: int = 30, requests: int = 100) -> float:
    """Return the microseconds of a request: the least of so many rounds."""
    least = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(requests):
            await ask(app)
        least = min(least, (time.perf_counter() - begun) / requests)
    return least * 1e6


async def main(rows: int) -> None:
    """Print what was counted."""
    async with running() as app:
        calls = await count(app)
        micros = await measure(app)
    own = {key: number for key, number in calls.items() if key[0].startswith(str(ROOT))}
    print(f"calls {sum(calls.values())}, of the project {sum(own.values())}")
    print(f"functions {len(calls)}, of the project {len(own)}; files {len({file for file, _ in calls})}")
    print(f"microseconds a request {micros:.0f}")
    for (file, name), number in calls.most_common(rows):
        print(f"{number:5d} {name} ({Path(file).name})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=0)
    asyncio.run(main(parser.parse_args().rows))
