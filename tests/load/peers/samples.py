"""The load that each server gets, and the figures of it."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.cli.bench.load import offer
from gateway.cli.bench.plan import LoadLevel
from gateway.cli.bench.report import quantile
from gateway.cli.bench.sample import Sample

# Requests of a level in one run, by clients: few, for there are several runs; with many clients, one of each, so that
# the batch is the same on machines of any speed.
_FEW, _PER_CLIENT, _MANY, _PER_MANY = 3, 2, 16, 1


class Load(Struct, frozen=True):
    """How much is asked: at which numbers of clients, `tokens` an answer, and no request begun after `seconds`."""

    clients: tuple[int, ...] = (1, 8, 32)
    tokens: int = 64
    seconds: float = 12.0

    def requests(self, clients: int) -> int:
        """Count the requests of a level."""
        return max(_FEW, clients * (_PER_MANY if clients > _MANY else _PER_CLIENT))

    def prompts(self) -> int:
        """Count the prompts of all levels in one run, with one more for each to warm up."""
        return sum(self.requests(clients) + 1 for clients in self.clients)


class Level(Struct, frozen=True):
    """What was found at a number of clients: tokens a second, seconds.

    `burst` is the median time to the first token of the first requests, which arrived at once, and `pause` the 99th
    percentile of the pauses between tokens that came apart. `failed` says why answers are missing. `machine` is what
    the machine itself did before and after, in operations a second.
    """

    clients: int
    speed: float
    burst: float
    pause: float
    answers: int
    failed: tuple[str, ...] = ()
    machine: tuple[float, ...] = ()


class Asks(Protocol):
    """A server that is ready."""

    async def run(self, prompts: Sequence[str], clients: int, load: Load) -> list[Sample]:
        """Have so many clients send these prompts."""
        ...


async def ask_each(
    ask: Callable[[str], Awaitable[Sample]], prompts: Sequence[str], clients: int, load: Load
) -> list[Sample]:
    """Have so many clients send prompts, each the next when its last is answered."""
    samples: list[Sample] = []

    async def one(number: int, _: float | None) -> Sample:
        return await ask(prompts[number])

    level = LoadLevel(clients=clients, requests=len(prompts), seconds=load.seconds)
    await offer(level, one, itertools.count(), samples.append, 0)
    return samples


async def measure(server: Asks, prompts: Sequence[str], clients: int, load: Load) -> Level:
    """Measure a server at a number of clients, after the first of the prompts, which warms it up."""
    await server.run(prompts[:1], 1, load)
    return sum_up(clients, await server.run(prompts[1:], clients, load), load.tokens)


def sum_up(clients: int, samples: Sequence[Sample], tokens: int) -> Level:
    """Sum up the answers of a level; those that failed or have another length than `tokens` count for nothing."""
    good = sorted((each for each in samples if not _failure(each, tokens)), key=lambda each: each.sent)
    failed = tuple(sorted({_failure(each, tokens) for each in samples} - {""}))
    if not good:
        return Level(clients, 0.0, 0.0, 0.0, 0, failed or ("no answer",))
    took = max(each.ended for each in good) - good[0].sent
    firsts = sorted(each.first - each.sent for each in good[:clients] if each.first is not None)
    pauses = sorted(gap for each in good for gap in each.gaps)
    made = sum(each.output_tokens or 0 for each in good)
    return Level(
        clients, made / took, quantile(firsts, 0.5), quantile(pauses, 0.99) if pauses else 0.0, len(good), failed
    )


def heard(told: dict) -> Sample:
    """Make the sample of an answer from when it was sent, when each token came, and when it ended."""
    sample = Sample(due=told["sent"], sent=told["sent"], ended=told["ended"], output_tokens=len(told["times"]))
    for at in told["times"]:
        sample.hear(at)
    return sample


def _failure(sample: Sample, tokens: int) -> str:
    if sample.error is not None:
        return sample.error
    return "" if sample.output_tokens == tokens else f"{sample.output_tokens} tokens, not {tokens}"
