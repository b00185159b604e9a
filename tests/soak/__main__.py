"""Run everything at once for some minutes, and print what the service kept; exit 1 where it kept too much.

`--minutes` says for how long, `--seed` repeats a run's random choices.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from gateway.linux import resident_bytes
from tests.attack.shortages import back
from tests.attack.target import Target, target
from tests.attack.verdict import leftovers
from tests.chaos.row import Row, at_most, none_of, percentile
from tests.soak.samples import Sample, look, memory_slopes, series
from tests.soak.traffic import Traffic
from tests.support.processes import engines

_AT_ONCE = 8
_LOOK_SECONDS = 2.0
_RELOAD_SECONDS = 20.0
_KILL_SECONDS = 60.0
_MOST_SLOPE = 1.0
_WARM_UP, _LONGEST_WARM_UP = 0.4, 90.0
# Of labels that come late, as the code of an error that is seldom.
_LATE_SERIES = 150


def main() -> int:
    """Soak, print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(prog="just soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        settings = {
            "LLM_GATEWAY__STORE__FILE": str(folder / "store.db"),
            "LLM_GATEWAY__FILES__FOLDER": str(folder / "files"),
            "LLM_GATEWAY__CACHE__MAX_BYTES": str(2**20),
            "LLM_GATEWAY__STORE__MAX_BYTES": str(4 * 2**20),
        }
        with target(random.Random(asked.seed), **settings) as found:  # noqa: S311 - a run that can be repeated
            rows = asyncio.run(_Soak(found, asked.minutes * 60, folder / "files").run())
    print(f"seed {asked.seed}, {asked.minutes:g} minutes", file=sys.stderr)
    return 0 if all(row.holds for row in rows) else 1


class _Soak:
    """One run against one service."""

    def __init__(self, found: Target, seconds: float, files: Path) -> None:
        self._target = found
        self._seconds = seconds
        self._files = files
        self._samples: list[Sample] = []
        # The larger engine is left alone, so that its memory can be followed; the smaller one is killed.
        self._kept = max(engines(found.main), key=lambda pid: resident_bytes(pid) or 0)

    async def run(self) -> list[Row]:
        began = time.monotonic()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            traffic = Traffic(session, self._target.service.url, self._target.keys, self._target.chance)
            warm = min(_LONGEST_WARM_UP, _WARM_UP * self._seconds)
            await self._drive(traffic, began, began + warm)
            before, early = await asyncio.to_thread(self._held), await asyncio.to_thread(self._scrape)
            await asyncio.to_thread(self._target.begin)
            await self._drive(traffic, began, began + self._seconds)
            seen = await asyncio.to_thread(self._target.end)
        rows = [
            at_most(f"{part}: memory", grown, _MOST_SLOPE, " MiB/min")
            for part, grown in memory_slopes(self._samples, warm).items()
        ]
        rows += await asyncio.to_thread(leftovers, self._target, before)
        late = await asyncio.to_thread(self._scrape)
        asked = sum(sum(statuses.values()) for statuses in traffic.statuses.values())
        rows += [
            none_of("files left in files.folder", self._count_files(), asked),
            at_most("label sets, more than after the warm-up", late.total() - early.total(), _LATE_SERIES),
            none_of("5xx and broken streams that nothing provoked", len(traffic.unprovoked), asked),
            none_of("neighbour: wrong answers", len(seen.wrong), len(seen.answers)),
            none_of("neighbour: connections lost", len(seen.lost), len(seen.answers)),
            back(self._target, "scripted"),
        ]
        alive = percentile([took for _, took in seen.alive], 0.99) * 1e3
        answered = percentile([took for _, took in seen.answers], 0.99) * 1e3
        print(f"neighbour: /livez p99 {alive:.1f} ms, answers p99 {answered:.1f} ms", file=sys.stderr)
        for line in [*dict.fromkeys(traffic.unprovoked)][:20]:
            print(f"       {line}", file=sys.stderr)
        _print(rows, traffic, self._samples, late.most_common(6))
        return rows

    async def _drive(self, traffic: Traffic, began: float, until: float) -> None:
        """Send, look, reload and kill until that monotonic second."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(traffic.flow(until))
            group.create_task(_every(_LOOK_SECONDS, until, lambda: self._look(began)))
            group.create_task(_every(_RELOAD_SECONDS, until, self._reload))
            group.create_task(
                _every(min(_KILL_SECONDS, (until - time.monotonic()) / 2), until, lambda: self._kill(traffic))
            )

    def _look(self, began: float) -> None:
        self._samples += look(self._target, time.monotonic() - began, self._kept)

    def _reload(self) -> None:
        self._target.service.process.send_signal(signal.SIGHUP)

    def _kill(self, traffic: Traffic) -> None:
        traffic.faults.append(time.monotonic())
        for pid in engines(self._target.main):
            if pid != self._kept:
                os.kill(pid, signal.SIGKILL)

    def _count_files(self) -> int:
        """Count the files of clients; `lock` is the folder's own."""
        return sum(path.name != "lock" for path in self._files.rglob("*"))

    def _held(self) -> dict[str, float]:
        """Count what is held when no request runs."""
        until = time.monotonic() + 10
        while (now := self._target.holdings())["running"] and time.monotonic() < until:
            time.sleep(0.2)
        return now

    def _scrape(self) -> Counter[str]:
        headers = {"authorization": f"Bearer {self._target.keys['neighbour']}"}
        return series(self._target.service.client.get("/metrics", headers=headers).text)


async def _every(seconds: float, until: float, work: Callable[[], None]) -> None:
    while time.monotonic() + seconds < until:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(work)


def _print(
    rows: Sequence[Row], traffic: Traffic, samples: Sequence[Sample], metrics: Sequence[tuple[str, int]]
) -> None:
    console = Console(width=150)
    promises = Table("what", "wanted", "seen", "")
    for row in rows:
        promises.add_row(row.what, row.wanted, row.seen, "holds" if row.holds else "[red]does not hold")
    kinds = Table("requests", "count", "p50 ms", "p99 ms", "statuses")
    for kind, statuses in traffic.statuses.items():
        took = [seconds * 1e3 for seconds in traffic.seconds[kind]]
        times = [f"{percentile(took, share):.0f}" if took else "" for share in (0.5, 0.99)]
        told = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        kinds.add_row(kind, str(sum(statuses.values())), *times, told)
    held = Table("process", "processes", "MiB first", "last", "most", "descriptors", "threads")
    for part in dict.fromkeys(sample.part for sample in samples):
        own = [sample for sample in samples if sample.part == part]
        memory = [f"{mib:.1f}" for mib in (own[0].mib, own[-1].mib, max(sample.mib for sample in own))]
        counts = [f"{getattr(own[0], name)} to {getattr(own[-1], name)}" for name in ("descriptors", "threads")]
        held.add_row(part, str(len({sample.pid for sample in own})), *memory, *counts)
    labels = Table("metric", "label sets")
    for name, count in metrics:
        labels.add_row(name, str(count))
    for table in (promises, kinds, held, labels):
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
