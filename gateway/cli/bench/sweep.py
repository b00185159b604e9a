"""Goes through a plan's levels, one after the other."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from itertools import count
from typing import Protocol

from gateway.cli.bench.load import Ask, offer
from gateway.cli.bench.plan import LoadLevel, Plan
from gateway.cli.bench.report import Effort, LevelReport, sum_up
from gateway.cli.bench.sample import Sample


class Watcher(Protocol):
    """Is shown how a run goes."""

    def begin(self, level: LoadLevel) -> None:
        """Note that a level begins."""

    def see(self, sample: Sample) -> None:
        """Note that an answer is there."""


class Silence:
    """Watches nothing."""

    def begin(self, level: LoadLevel) -> None:
        """Say nothing."""

    def see(self, sample: Sample) -> None:
        """Say nothing."""


async def sweep(plan: Plan, ask: Ask, watcher: Watcher) -> AsyncGenerator[LevelReport, None]:
    """Yield the report of each level; one that is cancelled is reported as far as it went, and is the last."""
    numbers = count()
    for level in plan.levels:
        try:
            await _warm_up(level, plan, ask, numbers)
        except asyncio.CancelledError:
            return
        watcher.begin(level)
        report = await _measure(level, plan, _CountedRequests(ask), numbers, watcher)
        yield report
        if report.interrupted:
            return


async def _warm_up(level: LoadLevel, plan: Plan, ask: Ask, numbers: Iterator[int]) -> None:
    warm = LoadLevel(clients=min(plan.warmup, level.clients or 1), requests=plan.warmup)
    if plan.warmup:
        await offer(warm, ask, numbers, lambda _: None, plan.seed)


async def _measure(
    level: LoadLevel, plan: Plan, ask: "_CountedRequests", numbers: Iterator[int], watcher: Watcher
) -> LevelReport:
    samples: list[Sample] = []

    def see(sample: Sample) -> None:
        samples.append(sample)
        watcher.see(sample)

    interrupted = False
    before = time.process_time()
    try:
        await offer(level, ask, numbers, see, plan.seed)
    except asyncio.CancelledError:
        interrupted = True
    effort = Effort(client_cpu=time.process_time() - before, peak=ask.peak, interrupted=interrupted)
    return sum_up(level, samples, plan.output_tokens, effort)


class _CountedRequests:
    """Asks, and counts how many requests are under way at a time."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._running = 0
        self.peak = 0

    async def __call__(self, number: int, due: float | None) -> Sample:
        self._running += 1
        self.peak = max(self.peak, self._running)
        try:
            return await self._ask(number, due)
        finally:
            self._running -= 1
