"""The fastest way to compute here: measured at the first start, and remembered for each model and machine."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from gateway.engine import loading_step, read_own, write_own
from gateway_hf.compute import native
from gateway_hf.compute.kernels import FORMATS, Kernels
from gateway_hf.compute.native import NotBuiltError
from gateway_hf.compute.packed import Packed

_log = logging.getLogger("gateway_hf")

_FILE = "tuned.json"
_LARGEST = 1 << 20
_MOST = 256
# Rows of an answer alone and of many together; both count alike.
_ROWS = (1, 32)
_ROUNDS = 3
# A candidate must be so much faster than those before it: a moment's noise must not decide for good.
_GAIN = 0.85
# A thread that had less of its time on a processor shared that with others: what was measured says nothing of later.
_OWN = 0.8
_TRIES = 3
_SHAPE = (2048, 768)
# So much weight is walked through that no cache holds it.
_BYTES = 64 << 20


class ComputeChoice(Struct, frozen=True):
    """How to compute: `kernels` of our own or torch's operations.

    `micros` is what a multiplication took with each of the candidates, in microseconds.

    """

    dtype: str
    threads: int
    kernels: bool
    micros: dict[str, float] = {}


class Candidates(NamedTuple):
    """What may be chosen from, the likeliest of a kind first; a setting leaves one."""

    dtypes: tuple[str, ...]
    threads: tuple[int, ...]
    kernels: tuple[bool, ...]


def tune(model: str, candidates: Candidates, cache: Path) -> ComputeChoice:
    """Choose for a model: as remembered, or by measuring now."""
    if all(len(kind) == 1 for kind in candidates):
        return ComputeChoice(candidates.dtypes[0], candidates.threads[0], candidates.kernels[0])
    file, key = cache / _FILE, _key(model, candidates)
    known = _remembered(file)
    if key not in known or not _is_choice_of(known[key], candidates):
        with loading_step(_log, "measuring what computes fastest here", "once, about 5 s") as tell:
            known[key], own = _measure(candidates, cache, tell)
        if own < _OWN:
            _log.warning("other programs compute as well: what is fastest here is measured again at the next start")
            known[key] = msgspec.structs.replace(known[key], threads=candidates.threads[0])
        else:
            _remember(file, known)
        _log.debug("measured: %s", ", ".join(f"{how} {micros:.0f} µs" for how, micros in known[key].micros.items()))
    chosen = known[key]
    how = "kernels of our own" if chosen.kernels else "torch's operations"
    _log.info("computing in %s with %d threads and %s", chosen.dtype, chosen.threads, how)
    return chosen


def _measure(candidates: Candidates, cache: Path, tell: Callable[[float], None]) -> tuple[ComputeChoice, float]:
    """Take the least geometric mean over the numbers of rows, in doubt the candidate that comes first.

    Return it with the part of its time, at least, that a thread had a processor.
    """
    micros: dict[str, float] = {}
    own = 1.0
    best: tuple[float, ComputeChoice] | None = None
    ways = list(product(*candidates))
    for at, (dtype, threads, kernels) in enumerate(ways):
        tell(at / len(ways))
        with contextlib.suppress(NotBuiltError), _torch_threads(1 if kernels else threads):
            measure = partial(_times, getattr(torch, dtype), Kernels(cache, threads) if kernels else None)
            if threads == min(candidates.threads):  # several wait for each other as well
                times, part = _undisturbed(measure, threads)
                own = min(own, part)
            else:
                times = measure()
            mean = prod(times) ** (1 / len(times))
            micros[f"{dtype}/{threads}/{'kernels' if kernels else 'torch'}"] = round(mean, 1)
            if best is None or mean < _GAIN * best[0]:
                best = mean, ComputeChoice(dtype, threads, kernels)
    if best is None:
        return ComputeChoice(candidates.dtypes[0], candidates.threads[0], kernels=False), own
    return msgspec.structs.replace(best[1], micros=micros), own


def _undisturbed(measure: Callable[[], list[float]], threads: int) -> tuple[list[float], float]:
    """Measure until a thread has a processor for most of its time, a few times at most; return it with that part."""
    tries = 1
    while True:
        begun = _clocks()
        times = measure()
        part = _own_part(begun) / threads
        if part >= _OWN or tries == _TRIES:
            return times, part
        tries += 1


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _own_part(begun: tuple[float, float]) -> float:
    """Return the seconds of a processor that this process had since then, for each second."""
    computed, passed = (now - then for now, then in zip(_clocks(), begun, strict=True))
    return computed / passed


@torch.inference_mode()
def _times(dtype: torch.dtype, kernels: Kernels | None) -> list[float]:
    """Return the microseconds of a multiplication, for each number of rows, the best round of some."""
    columns, depth = _SHAPE
    copies = _BYTES // (columns * depth * dtype.itemsize)
    weights = [torch.full(_SHAPE, 0.01, dtype=dtype) for _ in range(copies)]
    multiply = [_multiplication(weight, kernels) for weight in weights]
    return [_best(multiply, torch.ones(rows, depth, dtype=dtype)) / copies for rows in _ROWS]


def _multiplication(weight: Tensor, kernels: Kernels | None) -> Callable[[Tensor], Tensor]:
    if kernels is None:
        return partial(torch.nn.functional.linear, weight=weight)
    packed = Packed(weight, None, FORMATS[weight.dtype], kernels)
    return lambda x: kernels.multiply(packed.struct, x)


def _best(multiply: list[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    """Return the microseconds of the best round."""
    rounds = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for each in multiply:
            each(x)
        rounds.append(time.perf_counter() - begun)
    return min(rounds) * 1e6


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _key(model: str, candidates: Candidates) -> str:
    # What was measured with other kernels says nothing of these.
    machine = [native.digest(), version("torch"), str(candidates)]
    return f"{model} {hashlib.sha256(' '.join(machine).encode()).hexdigest()[:16]}"


def _is_choice_of(chosen: ComputeChoice, candidates: Candidates) -> bool:
    """Say whether a remembered choice is one that can be made now."""
    kinds = zip((chosen.dtype, chosen.threads, chosen.kernels), candidates, strict=True)
    return all(value in kind for value, kind in kinds)


def _remembered(file: Path) -> dict[str, ComputeChoice]:
    """Return the choices that the file holds; none of a file that is broken, or another user's."""
    try:
        entries = msgspec.json.decode(read_own(file, _LARGEST), type=dict[str, msgspec.Raw])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, msgspec.DecodeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        _log.warning("what was measured is not known: %s in the cache folder: %s", file.name, why)
        return {}
    known = {}
    for key, entry in entries.items():
        with contextlib.suppress(ValueError, msgspec.DecodeError, RecursionError):
            known[key] = msgspec.json.decode(entry, type=ComputeChoice)
    return known


def _remember(file: Path, known: dict[str, ComputeChoice]) -> None:
    """Write the file; a folder that cannot be written to means to measure again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_own(file, msgspec.json.format(msgspec.json.encode(dict(list(known.items())[-_MOST:])), indent=1))
