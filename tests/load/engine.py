"""Measure the hf engine on this machine, in one run: against what memory allows, the plain loop, and through HTTP.

    just bench [--clients 1,8,32] [--model builtin] [--settings '{"threads": 2}'] [--json FILE]

Prompts have 100 words, answers 64 tokens, every request its own prompt, at least four requests a client. Each stage has
a process of its own or the machine to itself; a level begins no request after `--seconds`, so that a run is bounded.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
from msgspec import Struct

from gateway.cli.bench.client import Client
from gateway.cli.bench.plan import LoadLevel, Plan
from gateway.cli.bench.prompts import PromptSource
from gateway.cli.bench.report import LevelReport
from gateway.cli.bench.sample import Sample
from gateway.cli.bench.sweep import Silence, sweep
from gateway.engine import (
    Completion,
    Delta,
    Engine,
    EngineError,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Sampling,
    load,
)
from tests.load.dialects import per_joined_token, per_paced_token
from tests.load.machine import Machine, measure_machine
from tests.support.processes import worker
from tests.support.service import Service

WORDS, TOKENS, PREFIX = 100, 64, 1_000
NATIVE = "/v1/generate"

T = TypeVar("T")


class Options(Struct):
    """What a run measures."""

    clients: list[int]
    seconds: float
    settings: dict
    seed: int

    def plan(self, url: str = "", **changes) -> Plan:
        """Plan the sweep over the clients."""
        levels = tuple(LoadLevel(clients=number, requests=4 * number, seconds=self.seconds) for number in self.clients)
        plan = Plan(url=url, levels=levels, api="native", prompt_words=WORDS, output_tokens=TOKENS, seed=self.seed)
        return msgspec.structs.replace(plan, **changes)


class ServiceFound(Struct):
    """What was found through HTTP; seconds and bytes."""

    levels: list[LevelReport]
    burst: LevelReport
    start: float
    prefix_first: float
    prefix_second: float
    resident: int
    resident_peak: int


class Transport(Struct):
    """Processor seconds that the worker takes for a streamed token: of those that come together, and one by one."""

    together: float
    alone: float


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Call in a new process, and wait until it is gone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        return processes.submit(function, *arguments).result()


def measure_engine(options: Options) -> list[LevelReport]:
    """Sweep over the engine itself: no HTTP, no gateway."""
    return asyncio.run(_measure_engine(options))


async def _measure_engine(options: Options) -> list[LevelReport]:
    plugin = load("hf")
    plan = options.plan(seed=options.seed + 1)
    prompts = PromptSource(plan.seed, WORDS)
    async with plugin.build(plugin.settings(**options.settings)) as engine:

        async def ask(number: int, due: float | None) -> Sample:
            return await ask_engine(engine, prompts.text(number), due)

        return [report async for report in sweep(plan, ask, Silence())]


async def ask_engine(engine: Engine, prompt: str, due: float | None, tokens: int = TOKENS) -> Sample:
    """Ask as the gateway does, and note what a client would."""
    sampling = Sampling(max_tokens=tokens, min_tokens=tokens, ignore_eos=True, temperature=0.0)
    request = GenerateRequest(id="a", model=engine.models()[0].name, prompt=Completion(prompt), sampling=sampling)
    sent = time.monotonic()
    sample = Sample(due=due or sent, sent=sent)
    try:
        async with aclosing(engine.generate(request)) as events:
            async for event in events:
                note(event, sample)
    except EngineError as error:
        sample.error = error.message
    sample.ended = time.monotonic()
    return sample


def note(event: GenerateEvent, sample: Sample) -> None:
    """Note an event as the HTTP client notes a frame."""
    if isinstance(event, Delta) and event.text:
        sample.hear(time.monotonic())
    elif isinstance(event, Finished):
        usage = event.usage
        sample.prompt_tokens, sample.output_tokens = usage.prompt_tokens, usage.completion_tokens
        sample.cached_tokens = usage.cached_tokens


def measure_service(options: Options) -> ServiceFound:
    """Start the service as `llm-gateway` does, and sweep through HTTP."""
    begun = time.monotonic()
    settings = json.dumps(options.settings)
    with Service(ENGINE="hf", ready=False, LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS=settings) as service:
        service.wait_for("/readyz", seconds=300)
        start = time.monotonic() - begun
        process = psutil.Process(worker(service.process.pid))
        resident = process.memory_info().rss
        plan = options.plan(service.url)
        levels = asyncio.run(sweep_http(plan))
        most = max(options.clients)
        at_once = (LoadLevel(clients=most, requests=most, seconds=options.seconds),)
        burst = asyncio.run(sweep_http(options.plan(service.url, levels=at_once, seed=options.seed + 2)))[0]
        first, second = asyncio.run(measure_prefix(options.plan(service.url), options.seed + 3))
        peak = process.memory_info().rss
    return ServiceFound(levels, burst, start, first, second, resident, peak)


async def sweep_http(plan: Plan) -> list[LevelReport]:
    """Sweep with the client of `llm-gateway bench`."""
    async with Client(plan) as client:
        return [report async for report in sweep(plan, client.ask, Silence())]


async def measure_prefix(plan: Plan, seed: int) -> tuple[float, float]:
    """Say the first text of the first and of the second request of a long shared prefix; medians of three."""
    pairs = []
    for turn in range(3):
        words = PREFIX + 10
        long = msgspec.structs.replace(plan, seed=seed + turn, prompt_words=words, shared_prefix=PREFIX / words)
        long = msgspec.structs.replace(long, output_tokens=4)
        async with Client(long) as client:
            samples = [await client.ask(number) for number in range(2)]
        pairs.append([sample.first - sample.sent if sample.first else float("nan") for sample in samples])
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return first, second


def measure_transport() -> Transport:
    """Measure a token of a stream over HTTP as `just dialects` does, with the echo engine's own share."""
    return Transport(*(measure(NATIVE, 3) * 1e-6 for measure in (per_joined_token, per_paced_token)))


def show(machine: Machine, engine: list[LevelReport], service: ServiceFound, transport: Transport) -> None:
    """Print one table, and what belongs to no level."""
    print(f"memory bandwidth {machine.bandwidth / 1e9:.1f} GB/s, weights {machine.weights / 1e6:.0f} MB in bfloat16")
    print(f"floor of a step {machine.floor * 1e3:.1f} ms: {1 / machine.floor:.1f} tokens/s alone")
    print(f"plain loop {machine.plain:.1f} tokens/s, the median of {', '.join(f'{x:.1f}' for x in machine.loops)}\n")
    titles = (
        "clients",
        "engine",
        "HTTP",
        "HTTP takes",
        "x plain",
        "x floor",
        "step/floor",
        "TTFT p50",
        "errors",
        "CPU",
    )
    print("".join(f"{title:>11}" for title in titles))
    for inside, outside in zip(engine, service.levels, strict=True):
        print("".join(f"{cell:>11}" for cell in _row(machine, inside, outside)))
    print(
        "\ntokens/s of the engine alone and through HTTP; `x floor` against one read of the weights a step for all"
        " clients;\n`step/floor` is the engine's time per output token; TTFT through HTTP; CPU is the load generator's."
    )
    burst = service.burst
    for level in (*engine, *service.levels, burst):
        for error, times in level.errors.items():
            print(f"{level.level.name} clients: {times} times: {error}")
    if burst.ttft:
        print(f"\nTTFT p50 of {burst.requests} arrivals at once {burst.ttft.p50 * 1e3:.0f} ms", end="")
        print(f" ({burst.prompt_tokens} prompt tokens)")
    share = service.prefix_second / service.prefix_first
    print(f"shared prefix of {PREFIX} words: TTFT {service.prefix_first * 1e3:.0f} ms,", end="")
    print(f" then {service.prefix_second * 1e3:.0f} ms: {share:.0%}")
    print(
        f"HTTP and SSE: {transport.together * 1e6:.1f} µs of the worker's CPU a token where many come together,", end=""
    )
    print(f" {transport.alone * 1e6:.1f} µs where each comes alone, of the echo engine")
    print(f"ready after {service.start:.1f} s; resident {service.resident / 1e6:.0f} MB,", end="")
    print(f" after the load {service.resident_peak / 1e6:.0f} MB")


def _row(machine: Machine, engine: LevelReport, http: LevelReport) -> list[str]:
    inside, outside = engine.tokens_per_second, http.tokens_per_second
    clients = http.level.clients or 1
    return [
        str(clients),
        f"{inside:.1f}",
        f"{outside:.1f}",
        f"{1 - outside / inside:.0%}" if inside else "-",
        f"{outside / machine.plain:.1f}",
        f"{outside * machine.floor / clients:.2f}",
        f"{engine.tpot.p50 / machine.floor:.2f}" if engine.tpot else "-",
        f"{http.ttft.p50 * 1e3:.0f} ms" if http.ttft else "-",
        str(engine.failed + http.failed + http.inexact),
        f"{http.client_cpu:.2f} s",
    ]


def staged(name: str, stage: Callable[[], T]) -> T:
    """Say what is measured, and how long it took."""
    begun = time.monotonic()
    print(f"{name} ", end="", flush=True)
    found = stage()
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="1,8,32", help="the levels")
    parser.add_argument("--seconds", type=float, default=60.0, help="in which a level begins requests")
    parser.add_argument("--model", default="builtin", help="what to serve")
    parser.add_argument("--settings", type=json.loads, default={}, help="the engine's settings, as JSON")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the prompts")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    given = parser.parse_args()
    clients = [int(number) for number in given.clients.split(",")]
    settings = {"model": given.model, "places": max(clients)} | given.settings
    options = Options(clients, given.seconds, settings, given.seed)
    prompts = [PromptSource(given.seed + 9, WORDS).text(number) for number in range(3)]
    machine = staged("the machine", lambda: apart(measure_machine, settings, prompts, TOKENS))
    engine = staged("the engine", lambda: apart(measure_engine, options))
    service = staged("the service", lambda: measure_service(options))
    transport = staged("the transport", measure_transport)
    print()
    show(machine, engine, service, transport)
    if given.json:
        found = {"machine": machine, "engine": [level.as_json() for level in engine], "service": service}
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found | {"transport": transport})))


if __name__ == "__main__":
    main()
