"""Measure what long prompts do to answers: the pauses between their tokens, and what paced steps make of it.

    just flood [--answers 4] [--floods 3] [--settings '{"quantize": "int8"}']

The engine alone, each way in a process of its own: answers with nothing beside them, and beside prompts of 2,000 words
that are always being read, once in steps that go by what answers can wait for and once in steps that are always full.
Then 32 prompts of 100 words arrive at once, in each.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from typing import NamedTuple

from gateway.cli.bench.prompts import PromptSource
from gateway.engine import Completion, Delta, Engine, GenerateRequest, Sampling, load
from gateway_hf.scheduling.pace import StepPace

TOKENS, LONG, SHORT, BURST = 96, 2_000, 100, 32


class FloodFound(NamedTuple):
    """Milliseconds: the pauses between tokens, and the times to the first token of a burst; tokens read a second."""

    pauses: list[float]
    firsts: list[float]
    read: float

    def told(self) -> str:
        """Return what was found as the columns of a line."""
        pauses, firsts = statistics.quantiles(self.pauses, n=100), statistics.quantiles(self.firsts, n=100)
        return f"{pauses[49]:>9.0f}{pauses[98]:>9.0f}{self.read:>12.0f}{firsts[49]:>12.0f}{firsts[94]:>9.0f}"


def measure(options: argparse.Namespace, floods: int, *, paced: bool) -> FloodFound:
    """Measure one way."""
    if not paced:
        StepPace.room = lambda pace, decodes, _nearly=0: pace._most - decodes  # type: ignore[method-assign]
    return asyncio.run(_measure(options, floods))


async def _measure(options: argparse.Namespace, floods: int) -> FloodFound:
    plugin = load("hf")
    numbers = itertools.count()
    async with plugin.build(plugin.settings(**options.settings)) as engine:
        await _ask(engine, PromptSource(0, SHORT).text(next(numbers)), 24)
        read, begun = [0], time.perf_counter()

        async def flood() -> None:
            while True:
                read[0] += await _read(engine, PromptSource(1, LONG).text(next(numbers)))

        flooding = [asyncio.create_task(flood()) for _ in range(floods)]
        await asyncio.sleep(1.0)
        prompts = [PromptSource(2, SHORT).text(next(numbers)) for _ in range(options.answers)]
        answers = await asyncio.gather(*(_ask(engine, prompt, TOKENS) for prompt in prompts))
        took = time.perf_counter() - begun
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
        burst = [PromptSource(3, SHORT).text(next(numbers)) for _ in range(BURST)]
        firsts = await asyncio.gather(*(_ask(engine, prompt, TOKENS // 2) for prompt in burst))
    pauses = [pause for times in answers for pause in itertools.starmap(_pause, itertools.pairwise(times[1:]))]
    return FloodFound(pauses, [times[0] * 1e3 for times in firsts], read[0] / took)


def _pause(before: float, after: float) -> float:
    return (after - before) * 1e3


async def _ask(engine: Engine, prompt: str, tokens: int) -> list[float]:
    """Return the seconds after which each token came."""
    begun = time.perf_counter()
    async with aclosing(engine.generate(_request(engine, prompt, tokens))) as events:
        return [time.perf_counter() - begun async for event in events if isinstance(event, Delta) and event.text]


async def _read(engine: Engine, prompt: str) -> int:
    """Have a prompt read, and return how many tokens it had."""
    async with aclosing(engine.generate(_request(engine, prompt, 1))) as events:
        return [event.usage.prompt_tokens async for event in events if hasattr(event, "usage")][-1]


def _request(engine: Engine, prompt: str, tokens: int) -> GenerateRequest:
    sampling = Sampling(max_tokens=tokens, min_tokens=tokens, ignore_eos=True, temperature=0.0)
    return GenerateRequest(id="a", model=engine.models()[0].name, prompt=Completion(prompt), sampling=sampling)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", default=4, type=int)
    parser.add_argument("--floods", default=3, type=int)
    parser.add_argument("--settings", default={}, type=json.loads)
    options = parser.parse_args()
    print(f"{'':<14}{'pause p50':>9}{'p99 ms':>9}{'read tok/s':>12}{'burst p50':>12}{'p95 ms':>9}")
    ways = {"nothing beside": (0, True), "paced steps": (options.floods, True), "full steps": (options.floods, False)}
    for name, (floods, paced) in ways.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            print(f"{name:<14}{process.submit(measure, options, floods, paced=paced).result().told()}", flush=True)


if __name__ == "__main__":
    main()
