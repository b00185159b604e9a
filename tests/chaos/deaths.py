"""Processes that are killed or stopped under load."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from tests.chaos.client import Client, Result, client
from tests.chaos.row import Row, at_least, at_most, none_of, percentile
from tests.support.processes import descendants, engines, is_alive, worker
from tests.support.service import Service

_PROMPT = " ".join(f"word{number}" for number in range(20))
_ISOLATED = {
    "LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true",
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY": "0.02",
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES": "8",
    "LOG_LEVEL": "WARNING",
}
_PLACES = 8
_STORY = "Once upon a time."
_LOAD_SECONDS = 1.0
_BEHIND_A_ROUTE = {
    "ISOLATED": "true",
    "SETTINGS__SCRIPT__DELAY": "0.02",
    "SETTINGS__LOAD": str(_LOAD_SECONDS),
    "SETTINGS__PLACES": str(_PLACES),
}
_CLIENTS = 16
_DEATHS = 10


async def engine_deaths() -> list[Row]:
    """Kill the engine ten times while it answers 16 clients, half of them streaming."""
    with Service(ready=True, **_ISOLATED) as service:
        async with client(service.url) as asker:
            over = asyncio.Event()
            results: list[Result] = []
            asking = [asyncio.create_task(_keep_asking(asker, results, over, n % 2 == 0)) for n in range(_CLIENTS)]
            probes: list[int] = []
            probing = asyncio.create_task(_keep_probing(asker, probes, over))
            for _ in range(_DEATHS):
                await asyncio.sleep(1.0)
                await _kill_engine(service.process.pid)
            await asyncio.sleep(1.0)
            over.set()
            await asyncio.gather(*asking, probing)
            last = await asker.ask(_PROMPT)
    wrong = sum(result.end == "whole" and result.text.strip() != _PROMPT for result in results)
    victims = [result for result in results if result.end in ("error", "refused")]
    untyped = sum(result.code != "engine_restarted" for result in victims)
    return [
        none_of("answers cut off without a word", _count(results, "truncated"), len(results)),
        none_of("connections reset", _count(results, "reset"), len(results)),
        none_of("answers with a wrong text", wrong, len(results)),
        none_of("victims without a typed error", untyped, max(len(victims), 1)),
        at_most("victims a death", len(victims) / _DEATHS, 8),
        none_of("probes that failed meanwhile", sum(status != 200 for status in probes), len(probes)),
        none_of("right text afterwards: missed", int(last.text.strip() != _PROMPT), 1),
    ]


async def fallback() -> list[Row]:
    """Kill one of a route's two engines ten times while they answer 16 clients, half of them streaming."""
    engines_of = {
        f"LLM_GATEWAY__ENGINES__{name}__": {"PLUGIN": "scripted"} | _BEHIND_A_ROUTE for name in ("EAST", "WEST")
    }
    environment = {start + key: value for start, settings in engines_of.items() for key, value in settings.items()}
    environment |= {f"LLM_GATEWAY__ENGINES__{name.upper()}__SETTINGS__MODEL": name for name in ("east", "west")}
    environment["LLM_GATEWAY__ROUTES__BOTH__ENGINES"] = '["east", "west"]'
    environment["LLM_GATEWAY__ROUTES__BOTH__STRATEGY"] = "least_loaded"
    with Service(ENGINE="echo", LOG_LEVEL="WARNING", **environment) as service:
        async with client(service.url) as asker:
            for name in ("east", "west"):
                while (await asker.ask(_PROMPT, model=name)).end != "whole":
                    await asyncio.sleep(0.05)
            over = asyncio.Event()
            results: list[Result] = []
            asking = [
                asyncio.create_task(_keep_asking(asker, results, over, n % 2 == 0, "both")) for n in range(_CLIENTS)
            ]
            for _ in range(_DEATHS):
                await asyncio.sleep(_LOAD_SECONDS + 1.0)
                await _kill_engine(service.process.pid)
            await asyncio.sleep(1.0)
            over.set()
            await asyncio.gather(*asking)
    begun = [result for result in results if result.code == "engine_restarted"]
    others = sum(result.end != "whole" for result in results) - len(begun)
    wrong = sum(result.end == "whole" and result.text != _STORY for result in results)
    return [
        at_least("answered, of what had not begun when its engine died", 1 - others / len(results), 0.999),
        at_most("answers that had begun, a death", len(begun) / _DEATHS, _PLACES),
        none_of("answers with a wrong text", wrong, len(results)),
        at_most("seconds of an answer, 99 of 100", percentile([result.seconds for result in results], 0.99), 1.0, " s"),
    ]


async def engine_stop() -> list[Row]:
    """Stop the engine in the middle of an answer, with a limit of 2 s for silence."""
    limit = 2.0
    with Service(ready=True, **_ISOLATED, LLM_GATEWAY__ENGINES__DEFAULT__HANG_SECONDS=str(limit)) as service:
        async with client(service.url) as asker:
            await asker.ask(_PROMPT)
            victim = asyncio.create_task(asker.ask(_PROMPT, stream=True))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            os.kill(engines(service.process.pid)[0], signal.SIGSTOP)
            await asyncio.sleep(0.1)
            following = await asker.ask(_PROMPT)
            replaced = time.monotonic() - began
            told = await victim
    return [
        none_of("the victim without a typed error", int(told.end != "error"), 1),
        none_of("who came next without an answer", int(following.end != "whole"), 1),
        at_most("stopped engine replaced, next answer whole", replaced, limit + 1 + 0.4, " s"),
    ]


async def worker_death() -> list[Row]:
    """Kill the HTTP worker; the engine stays as it is."""
    with Service(ready=True, **_ISOLATED) as service:
        async with client(service.url) as asker:
            await asker.ask(_PROMPT)
            engine = engines(service.process.pid)
            began = time.monotonic()
            os.kill(worker(service.process.pid), signal.SIGKILL)
            while (await asker.ask(_PROMPT)).end != "whole":
                await asyncio.sleep(0.01)
            seconds = time.monotonic() - began
            same = engine == engines(service.process.pid)
    return [
        at_most("killed worker: first 200 of a generation", seconds, 1.0 + 0.4, " s"),
        none_of("the model was loaded again", int(not same), 1),
    ]


async def main_death() -> list[Row]:
    """Kill the main process: nothing of it is left after a second."""
    with Service(ready=True, **_ISOLATED) as service:
        async with client(service.url) as asker:
            await asker.ask(_PROMPT)
            pids = descendants(service.process.pid)
            service.process.kill()
            await asyncio.sleep(1.0)
            left = sum(map(is_alive, pids))
    return [none_of("killed main process: processes left after 1 s", left, len(pids))]


async def _keep_asking(
    asker: Client,
    results: list[Result],
    over: asyncio.Event,
    is_streamed: bool,  # noqa: FBT001 - half of them each
    model: str | None = None,
) -> None:
    while not over.is_set():
        results.append(await asker.ask(_PROMPT, stream=is_streamed, model=model))


async def _keep_probing(asker: Client, statuses: list[int], over: asyncio.Event) -> None:
    while not over.is_set():
        statuses.append((await asker.probe())[0])
        await asyncio.sleep(0.05)


async def _kill_engine(main: int) -> None:
    await _until(lambda: bool(engines(main)))
    os.kill(engines(main)[0], signal.SIGKILL)


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def _count(results: list[Result], end: str) -> int:
    return sum(result.end == end for result in results)
