"""Measure what a token costs the gateway's process across the process border, and in the same process.

    uv run python tests/load/border.py [--streams 32] [--tokens 200] [--delay 0.02] [--rounds 3]

The engines do no work, so that what is left is the way of a token. Prints microseconds of the asking process's CPU a
token (the engine's own included where it runs in the same process), events a token, and tokens a second.
"""

import argparse
import asyncio
import time
from contextlib import AsyncExitStack, aclosing

from gateway.engine import Completion, Delta, Engine, GenerateRequest, Sampling, load
from gateway.testing.script import Script
from tests.support.border import isolated, scripted


def request(name: str, tokens: int, delay: float) -> GenerateRequest:
    if name == "echo":
        sampling = Sampling(max_tokens=tokens, ignore_eos=True)
        return GenerateRequest(id="a", model="echo", prompt=Completion("word " * 8), sampling=sampling)
    return scripted(texts=Script().texts * (tokens // 4), delay=delay)


async def read(engine: Engine, asked: GenerateRequest) -> tuple[int, int]:
    tokens = events = 0
    async with aclosing(engine.generate(asked)) as stream:
        async for event in stream:
            events += 1
            tokens += event.tokens if isinstance(event, Delta) else 0
    return tokens, events


async def round_of(engine: Engine, asked: GenerateRequest, streams: int) -> tuple[float, float, float]:
    begun, used = time.perf_counter(), time.process_time()
    counts = await asyncio.gather(*(read(engine, asked) for _ in range(streams)))
    used, taken = time.process_time() - used, time.perf_counter() - begun
    tokens = sum(tokens for tokens, _ in counts)
    return used / tokens * 1e6, sum(events for _, events in counts) / tokens, tokens / taken


async def measure(streams: int, tokens: int, delay: float, rounds: int) -> None:
    """Ask by turns, so that all suffer alike from a busy machine; keep each one's least."""
    room = {"places": streams, "context_window": 2 * tokens + 64}
    settings = {"echo": {"delay": delay, **room}, "scripted": room}
    subjects: dict[str, tuple[Engine, GenerateRequest]] = {}
    async with AsyncExitStack() as stack:
        for name, own in settings.items():
            plugin = load(name)
            asked = request(name, tokens, delay)
            inside = plugin.build(plugin.settings(**own))
            subjects[f"{name}, in process"] = await stack.enter_async_context(inside), asked
            subjects[f"{name}, isolated"] = await stack.enter_async_context(isolated(name, **own)), asked
        for engine, asked in subjects.values():
            await round_of(engine, asked, 2)
        found = {name: [] for name in subjects}
        for _ in range(rounds):
            for name, (engine, asked) in subjects.items():
                found[name].append(await round_of(engine, asked, streams))
    for name, results in found.items():
        micro, events, rate = min(results)
        print(f"{name:24}{micro:8.1f} µs a token {events:6.2f} events a token {rate:10.0f} tokens/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(measure(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
