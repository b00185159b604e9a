"""Start it all, lose one part after the other under load, and print what each loss cost; exit 1 where too much."""

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.auth import KeyFile
from gateway.limits import Quota
from tests.scale.backends import BACKENDS, Backend
from tests.scale.load import Load, Span, under_load
from tests.support import proxy
from tests.support.replicas import Replicas
from tests.support.service import free_port
from tests.support.store import StoreServer

_GATEWAYS = 3
_LIMIT = 1_000_000
# A loss is looked at for so long, whatever comes back before.
_SECONDS = 10.0
_CALM = "nothing lost"
_ROLLING = "rolling restart of all gateways"
_REDIS = "Redis killed, then back"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="just scale", description=__doc__)
    parser.add_argument("--behind", choices=BACKENDS, default="echo", help="what the gateways have behind them")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for how long each loss is looked at")
    options = parser.parse_args()
    if proxy.program() is None:
        print(proxy.MISSING, file=sys.stderr)
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        key = KeyFile(folder / "keys.db").create("scale", quota=Quota(requests_per_minute=_LIMIT))[1]
        store = StoreServer()
        stack.callback(store.close)
        try:
            backend = stack.enter_context(BACKENDS[options.behind]())
        except ImportError as error:
            print(f"{error}: `uv sync --extra ray` installs it", file=sys.stderr)
            return 1
        replicas = stack.enter_context(Replicas(_GATEWAYS, **_environment(folder, store), **backend.environment))
        front = stack.enter_context(proxy.Proxy(free_port(), replicas.ports))
        trials = _trials(backend, replicas, store)
        spans = asyncio.run(_try_all(trials, front.url, key, options))
    _show(spans, options)
    lossless = [span for span in spans if span.name in (_CALM, _ROLLING, _REDIS)]
    return int(any(span.failed or span.cut for span in lossless) or any(span.cut for span in spans))


def _environment(folder: Path, store: StoreServer) -> dict[str, str]:
    return {
        "LOG_LEVEL": "ERROR",
        "LLM_GATEWAY__AUTH__FILE": str(folder / "keys.db"),
        "LLM_GATEWAY__LIMITS__STORE_URL": store.url,
        "LLM_GATEWAY__LIMITS__REPLICAS": str(_GATEWAYS),
        "LLM_GATEWAY__CACHE__STORE_URL": store.url,
    }


def _trials(backend: Backend, replicas: Replicas, store: StoreServer) -> dict[str, Callable[[float], None]]:
    """Name what happens, each a function of the seconds that it is looked at; it returns when all is there again."""

    def roll(_: float) -> None:
        for number in range(_GATEWAYS):
            if replicas.stop(number) != 0:
                raise RuntimeError(f"a gateway did not end well:\n{replicas.services[number].output}")
            replicas.start(number)

    def lose_gateway(_: float) -> None:
        replicas.kill(0)
        replicas.start(0)

    def lose_store(seconds: float) -> None:
        store.stop()
        time.sleep(seconds / 2)
        store.start()

    def lose(part: Callable[[Replicas], None]) -> Callable[[float], None]:
        return lambda _: part(replicas)

    behind = {name: lose(part) for name, part in backend.losses.items()}
    return {
        _CALM: lambda _: None,
        **behind,
        "a gateway killed, then back": lose_gateway,
        _REDIS: lose_store,
        _ROLLING: roll,
    }


async def _try_all(
    trials: dict[str, Callable[[float], None]], url: str, key: str, options: argparse.Namespace
) -> list[Span]:
    async with under_load(url, key, options.clients) as load:
        await _settle(load)
        spans: list[Span] = []
        for name, trial in trials.items():
            spans.append(await _try(load, name, trial, options.seconds, spans[0].goodput if spans else None))
        return spans


async def _settle(load: Load) -> None:
    """Let every client have had an answer before anything counts."""
    until = time.monotonic() + 60.0
    while not any(result.end == "whole" for result in load.results[-8:]):
        if time.monotonic() > until:
            raise TimeoutError(f"no answer comes; the last results: {load.results[-3:]}")
        await asyncio.sleep(0.1)
    await asyncio.sleep(2.0)


async def _try(load: Load, name: str, trial: Callable[[float], None], seconds: float, usual: float | None) -> Span:
    print(f"{name} …", file=sys.stderr, flush=True)
    began = time.monotonic()
    await asyncio.to_thread(trial, seconds)
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    return load.span(name, began, usual)


def _show(spans: list[Span], options: argparse.Namespace) -> None:
    table = Table("what happens", "seconds", "whole", "a second", "failed", "cut", "p99, s", "well again after, s")
    for span in spans:
        failed = ", ".join(f"{count} {code}" for code, count in span.failed.most_common()) or "0"
        recovered = "not yet" if math.isinf(span.recovered) else f"{span.recovered:.1f}"
        figures = (f"{span.goodput:.1f}", failed, str(span.cut), f"{span.p99:.2f}", recovered)
        table.add_row(span.name, f"{span.seconds:.1f}", str(span.whole), *figures)
    console = Console(width=140)
    console.print(f"{_GATEWAYS} gateways behind nginx, one Redis, {options.behind} behind, {options.clients} clients")
    console.print(table)
    console.print("failed: by code; `reset` is a connection that broke. cut: a stream that ended as if it were whole.")
    console.print("well again: whole answers come at half of the pace of `nothing lost` or more, and go on to.")


if __name__ == "__main__":
    sys.exit(main())
