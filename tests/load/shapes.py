"""Measure what it costs that answers have a given shape: the same lengths free and held to a schema, round by round.

    python -m tests.load.shapes [--clients 1,8,32]

One service with the built-in model, rounds in the order free, shaped, shaped, free, so that a machine which becomes
slower is slower for both. No answer can end by itself: free ones ignore the end, and a schema asks for more than fits.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping

import aiohttp
import psutil
from msgspec import Struct

from gateway.cli.bench.prompts import PromptSource
from tests.support.processes import worker
from tests.support.service import Service

WORDS, TOKENS = 100, 64
FRESH = 24
SIMPLE = {"type": "array", "items": {"type": "integer"}, "minItems": 200}
RICH = {
    "type": "array",
    "minItems": 50,
    "items": {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[a-z]{3}-[0-9]{4}$"},
            "name": {"type": "string", "minLength": 3, "maxLength": 24},
            "kind": {"enum": ["bird", "fish", "mammal", "reptile", "insect"]},
            "legs": {"type": "integer", "minimum": 0, "maximum": 8},
            "weight": {"type": "number", "exclusiveMinimum": 0},
            "is_wild": {"type": "boolean"},
            "seen": {"type": "array", "items": {"type": "string", "format": "date"}, "maxItems": 3},
            "home": {
                "type": "object",
                "properties": {"country": {"type": "string", "maxLength": 16}, "height": {"type": ["integer", "null"]}},
                "required": ["country", "height"],
                "additionalProperties": False,
            },
        },
        "required": ["id", "name", "kind", "legs", "weight", "is_wild", "seen", "home"],
        "additionalProperties": False,
    },
}
FREE: Mapping[str, object] = {"ignore_eos": True}


class Round(Struct):
    """One round: the tokens that came, its seconds, and the processor seconds of the worker."""

    tokens: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: "Round") -> "Round":
        return Round(self.tokens + other.tokens, self.seconds + other.seconds, self.cpu + other.cpu)


class ShapeRow(Struct):
    """A level: clients, and what came of free answers and of those held to each schema."""

    clients: int
    free: Round
    shaped: dict[str, Round]


class Asker:
    """Streams answers of one length from a service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, pid: int, seed: int) -> None:
        self._session = session
        self._url = f"{url}/v1/chat/completions"
        self._worker = psutil.Process(pid)
        self._prompts = PromptSource(seed, WORDS)
        self._numbers = itertools.count()

    async def ask(self, shape: Mapping[str, object], tokens: int = TOKENS) -> tuple[int, float]:
        """Stream one answer; return its tokens, and the seconds to its first text."""
        said = [{"role": "user", "content": self._prompts.text(next(self._numbers))}]
        body = {"messages": said, "stream": True, "max_tokens": tokens, "temperature": 0}
        body |= {"stream_options": {"include_usage": True}, **shape}
        sent, first, made = time.monotonic(), 0.0, 0
        async with self._session.post(self._url, json=body) as answer:
            if answer.status != 200:
                raise RuntimeError(await answer.text())
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                frame = json.loads(line[6:])
                if "error" in frame:
                    raise RuntimeError(frame["error"])
                if not first and any(choice["delta"].get("content") for choice in frame["choices"]):
                    first = time.monotonic() - sent
                if frame.get("usage"):
                    made = frame["usage"]["completion_tokens"]
        if made != tokens:
            raise RuntimeError(f"{made} tokens came, not {tokens}")
        return made, first

    async def run(self, clients: int, requests: int, shape: Mapping[str, object]) -> Round:
        """Have so many clients ask, one request after the other."""
        left = itertools.count()

        async def keep_asking() -> int:
            made = 0
            while next(left) < requests:
                made += (await self.ask(shape))[0]
            return made

        before, began = self._worker.cpu_times(), time.monotonic()
        tokens = sum(await asyncio.gather(*(keep_asking() for _ in range(clients))))
        seconds, after = time.monotonic() - began, self._worker.cpu_times()
        return Round(tokens, seconds, after.user + after.system - before.user - before.system)


def shaped(schema: object) -> dict[str, object]:
    """Ask for a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}}


async def measure_level(asker: Asker, clients: int) -> ShapeRow:
    """Measure free answers, and those held to each schema, at one number of clients."""
    requests = max(4, clients)
    shapes = {"simple": shaped(SIMPLE), "rich": shaped(RICH)}
    for shape in (FREE, *shapes.values()):
        await asker.ask(shape)
    row = ShapeRow(clients, Round(), dict.fromkeys(shapes, Round()))
    for name in (None, *shapes, *reversed(shapes), None):
        found = await asker.run(clients, requests, FREE if name is None else shapes[name])
        print(f"{clients} clients, {name or 'free'}: {found.tokens / found.seconds:.1f} tokens/s", file=sys.stderr)
        if name is None:
            row.free += found
        else:
            row.shaped[name] += found
    return row


async def measure_fresh(asker: Asker, draw: random.Random) -> tuple[float, float, float]:
    """Say the median seconds to the first text: free, of a schema that was seen, and of schemas that were not."""
    times: dict[str, list[float]] = {"free": [], "seen": [], "fresh": []}
    for _ in range(FRESH):
        names = [f"field_{draw.randrange(10**9)}" for _ in range(4)]
        item = RICH["items"]["properties"]
        own = {name: item[like] for name, like in zip(names, ("name", "kind", "weight", "home"), strict=True)}
        fresh = {"type": "object", "properties": own, "required": names, "additionalProperties": False}
        for name, shape in (("free", FREE), ("seen", shaped(RICH)), ("fresh", shaped(fresh))):
            times[name].append((await asker.ask(shape, 4))[1])
    return tuple(map(statistics.median, times.values()))


async def measure(clients: list[int], seed: int) -> tuple[list[ShapeRow], tuple[float, float, float]]:
    """Measure all of it with one service."""
    environment = {
        "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS": json.dumps({"places": max(clients)}),
        # On a busy machine the last of a crowd waits for long.
        "LLM_GATEWAY__ADMISSION__QUEUE_SECONDS": "120",
    }
    with Service(ENGINE="hf", ready=False, **environment) as service:
        service.wait_for("/readyz", seconds=300)
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            asker = Asker(session, service.url, worker(service.process.pid), seed)
            rows = [await measure_level(asker, number) for number in clients]
            return rows, await measure_fresh(asker, random.Random(seed))  # noqa: S311 - no secret


def show(rows: list[ShapeRow], firsts: tuple[float, float, float]) -> None:
    """Print one table, and the times to the first text."""
    names = list(rows[0].shaped)
    titles = ("clients", "free", *(title for name in names for title in (name, "x free")), "µs free", *names)
    print("".join(f"{title:>10}" for title in titles))
    for row in rows:
        free = row.free.tokens / row.free.seconds
        cells = [str(row.clients), f"{free:.1f}"]
        for found in row.shaped.values():
            speed = found.tokens / found.seconds
            cells += [f"{speed:.1f}", f"{speed / free:.2f}"]
        cells += [f"{found.cpu / found.tokens * 1e6:.1f}" for found in (row.free, *row.shaped.values())]
        print("".join(f"{cell:>10}" for cell in cells))
    print("tokens/s through HTTP, free and held to two schemas; then the worker's CPU a streamed token")
    free, seen, fresh = (seconds * 1e3 for seconds in firsts)
    print(f"first text, median of {FRESH}: free {free:.0f} ms, schema seen before {seen:.0f} ms, ", end="")
    print(f"new schema {fresh:.0f} ms: {fresh - free:+.0f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="1,8,32", help="the levels")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the prompts")
    given = parser.parse_args()
    show(*asyncio.run(measure([int(number) for number in given.clients.split(",")], given.seed)))


if __name__ == "__main__":
    main()
