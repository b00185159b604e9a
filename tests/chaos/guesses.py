"""Whether the time of a refusal tells anything of the keys there are."""

import math
import random
import statistics
import tempfile
import time
from pathlib import Path

from gateway.auth import KeyFile, Keyring, new_key
from tests.chaos.row import Row, at_most

_SAMPLES = 5_000


async def guesses() -> list[Row]:
    """Time the refusal of keys that nobody has, and of one that differs from a real one in its last letter."""
    with tempfile.TemporaryDirectory() as folder:
        file = KeyFile(Path(folder, "keys.db"))
        _, real = file.create("real")
        keyring = Keyring(file=file)
        near = real[:-1] + ("a" if real[-1] != "a" else "b")
        kinds = {"near": near, "unknown": new_key()[1]}
        seen: dict[str, list[float]] = {kind: [] for kind in kinds}
        for kind in random.sample([*kinds] * _SAMPLES, 2 * _SAMPLES):
            began = time.perf_counter_ns()
            keyring.caller(kinds[kind])
            seen[kind].append(time.perf_counter_ns() - began)
    return [at_most("Welch's t between a near miss and an unknown key", abs(_t(*map(_trimmed, seen.values()))), 3)]


def _trimmed(times: list[float]) -> list[float]:
    """Leave out the slowest twentieth: those are the machine's."""
    return sorted(times)[: len(times) * 19 // 20]


def _t(one: list[float], other: list[float]) -> float:
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return (statistics.mean(one) - statistics.mean(other)) / math.sqrt(spread)
