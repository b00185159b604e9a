"""Count the Python calls that one streamed token takes, on its way through the service and in the engine `hf`.

    python -m tests.load.token_calls [--rows 20]

An answer of 40 tokens is counted and one of 140, in this process and on all threads; what the longer one has more is
the tokens'. Prints, for the echo through the HTTP application, for the echo across the border of a process, and for a
tiny model, greedy and drawn, the calls of functions of the project and of all, and the functions that are called most.
To compare two commits, run it in a checkout of each: no request here has a constraint, tools or thoughts.
"""

import argparse
import asyncio
import collections
import json
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from types import FrameType

from gateway.engine import Completion, Engine, GenerateRequest, Health, Sampling, load
from tests.load.calls import HEADERS, ROOT, SCOPE, running
from tests.support.border import across
from tests.support.hf_engine import until
from tests.support.tiny_models import make_tiny

FEW, MANY = 40, 140
SOURCES = (f"{ROOT}/gateway/", f"{ROOT}/plugins/")
Calls = collections.Counter[tuple[str, str]]


class CallCounter:
    """Counts the calls on this thread, and on those that are started after it was made."""

    def __init__(self) -> None:
        self._calls: Calls | None = None
        threading.setprofile(self._profile)

    async def count(self, run: Callable[[int], Awaitable[None]], tokens: int) -> Calls:
        """Count the calls of one answer."""
        self._calls = calls = collections.Counter()
        sys.setprofile(self._profile)
        await run(tokens)
        sys.setprofile(None)
        self._calls = None
        return calls

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and self._calls is not None:
            self._calls[frame.f_code.co_filename, frame.f_code.co_qualname] += 1


def stream_over_http(app) -> Callable[[int], Awaitable[None]]:
    """Return what streams a chat answer through the application."""

    async def run(tokens: int) -> None:
        asked = {"messages": [{"role": "user", "content": "one two three"}], "stream": True, "temperature": 0.5}
        body = json.dumps(asked | {"max_tokens": tokens, "ignore_eos": True}).encode()
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            return left.pop() if left else await asyncio.get_running_loop().create_future()

        async def send(message) -> None:
            assert message.get("status", 200) == 200

        await app({**SCOPE, "headers": list(HEADERS), "state": {}}, receive, send)

    return run


def stream_from(engine: Engine, heat: float | None = None) -> Callable[[int], Awaitable[None]]:
    """Return what reads the events of an engine's answer."""
    name = "echo" if heat is None else engine.models()[0].name

    async def run(tokens: int) -> None:
        sampling = Sampling(max_tokens=tokens, ignore_eos=True, temperature=heat)
        asked = GenerateRequest(id="a", model=name, prompt=Completion("Once upon a time"), sampling=sampling)
        async with aclosing(engine.generate(asked)) as events:
            async for _ in events:
                pass

    return run


async def show(counter: CallCounter, title: str, run: Callable[[int], Awaitable[None]], rows: int) -> None:
    """Print the calls of one token."""
    await run(FEW)
    few, many = await counter.count(run, FEW), await counter.count(run, MANY)
    each = {key: (number - few[key]) / (MANY - FEW) for key, number in many.items()}
    own = sum(number for (file, _), number in each.items() if file.startswith(SOURCES))
    print(f"{title}: {sum(each.values()):.1f} calls a token, {own:.1f} of the project")
    for (file, name), number in sorted(each.items(), key=lambda row: -row[1])[:rows]:
        print(f"{number:8.2f} {name} ({Path(file).name})")


async def main(rows: int) -> None:
    """Print what was counted."""
    counter, hf, echo = CallCounter(), load("hf"), load("echo")
    async with running() as app:
        await show(counter, "echo over HTTP", stream_over_http(app), rows)
    async with across(echo.build(echo.settings())) as remote:
        await show(counter, "echo across a border", stream_from(remote), rows)
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny("llama", Path(folder) / "tiny")
        async with hf.build(hf.settings(model=str(model), threads=1)) as engine:
            await until(engine, health=Health.READY)
            for heat in (0.0, 1.0):
                await show(counter, f"hf at temperature {heat}", stream_from(engine, heat), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=0)
    asyncio.run(main(parser.parse_args().rows))
