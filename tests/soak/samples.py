"""What each process holds over time, and the slope of it."""

from collections import Counter
from collections.abc import Sequence

import psutil
from msgspec import Struct

from gateway.linux import resident_bytes
from tests.attack.target import MIB, Target
from tests.support.processes import engines, server, worker


class Sample(Struct, frozen=True):
    """One look at one process, at a second of the run: `part` is what it is for, memory in MiB."""

    second: float
    part: str
    pid: int
    mib: float
    descriptors: int
    threads: int


def look(target: Target, second: float, held_engine: int) -> list[Sample]:
    """Look at every process; `held_engine` is the engine's that is never killed."""
    others = [pid for pid in engines(target.main) if pid != held_engine]
    named = [("supervisor", target.main), ("server", server(target.main)), ("worker", worker(target.main))]
    named += [("engine tiny", held_engine), *(("engine scripted", pid) for pid in others)]
    found = []
    for part, pid in named:
        try:
            process = psutil.Process(pid)
            held = (resident_bytes(pid) or 0) / MIB, process.num_fds(), process.num_threads()
        except psutil.Error:
            continue  # it has just been killed
        found.append(Sample(second, part, pid, *held))
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of a line through the points by least squares; 0 for fewer than two moments."""
    mean_x = sum(x for x, _ in points) / max(1, len(points))
    mean_y = sum(y for _, y in points) / max(1, len(points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def memory_slopes(samples: Sequence[Sample], warm_up: float) -> dict[str, float]:
    """Return the MiB a minute of each process that lived from the end of the warm-up on, by part."""
    last = max((sample.second for sample in samples), default=0.0)
    lived: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for sample in samples:
        if sample.second >= warm_up:
            lived.setdefault((sample.part, sample.pid), []).append((sample.second / 60, sample.mib))
    return {
        part: slope(points)
        for (part, _), points in lived.items()
        if (points[-1][0] - points[0][0]) * 60 > 0.8 * (last - warm_up)
    }


def series(scrape: str) -> Counter[str]:
    """Count the label sets of each metric in a scrape."""
    lines = (line for line in scrape.splitlines() if line and not line.startswith("#"))
    return Counter(line.partition("{")[0].split()[0] for line in lines)
