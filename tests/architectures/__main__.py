"""Try all causal types, or those named, and print the table; exit 1 where one says something else.

    just architectures [TYPE ...]
    just architectures --speed [TYPE ...]

Each is tried in a process of its own, for `--seconds` at most: a model's code may crash, and its modules are large.
With `--speed` types are measured at the shape of half a billion parameters (those that a row is multiplied by), in
bfloat16, as shares of what the machine's memory and products allow: the fastest way that a type has (fused layers,
packed weights alone, or as it is), and how many times more tokens a second that gives than the ways behind it. On a
busy machine `--threads 1 --layers 4` measures a thread's processor time.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from gateway_hf.compute.kernels import Kernels
from gateway_hf.compute.tuning import ComputeChoice
from gateway_hf.loading import weights
from gateway_hf.settings import Settings, cache_folder
from tests.architectures.speed import FAMILIES, Measured, measure, measure_roof
from tests.architectures.tiny import KINDS
from tests.architectures.trial import Verdict, try_kind

# What the measured steps are called; a prompt has the key 0.
_STEPS = {1: "1 row", 8: "8 rows", 32: "32 rows", 0: "prompt"}


def main() -> int:
    """Try them and print the table."""
    options = _options()
    if unknown := set(options.kinds) - set(KINDS):
        print(f"no such type: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    table = Table("type", "says", "seconds", "how")
    if options.speed:
        return _print_speeds(options.kinds or FAMILIES, options.threads, options.layers)
    verdicts = []
    for kind in options.kinds or KINDS:
        begun = time.monotonic()
        verdicts.append(_in_a_process(kind, options.seconds))
        took = f"{time.monotonic() - begun:.1f}"
        print(kind, verdicts[-1].says, took, verdicts[-1].how, file=sys.stderr, flush=True)
        table.add_row(kind, verdicts[-1].says, took, verdicts[-1].how)
    Console(width=200).print(table)
    for says in sorted({verdict.says for verdict in verdicts}):
        print(f"{says}: {sum(verdict.says == says for verdict in verdicts)}")
    return 1 if any(verdict.wrong for verdict in verdicts) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just architectures", description="Try causal types against generate().")
    parser.add_argument("kinds", nargs="*", metavar="TYPE")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--speed", action="store_true", help="measure, in bfloat16, and try nothing")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="to measure with")
    parser.add_argument("--layers", type=int, help="to measure, in place of 24")
    return parser.parse_args()


def _print_speeds(kinds: Sequence[str], threads: int, layers: int | None) -> int:
    """Print for each type tokens a second, the share of the roof, and how many times that of other ways."""
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(1)
    cache = cache_folder(Settings())
    roof, kernels = measure_roof(cache, threads, torch.bfloat16), Kernels(cache, threads)
    print(
        f"{roof.bandwidth / 1e9:.1f} GB/s read, {roof.rate / 1e9:.0f} GFLOP/s multiplied, {threads} threads, bfloat16"
    )
    table = Table("type", *(f"{what}: tokens/s, share, x packed, x stock" for what in _STEPS.values()))
    for kind in kinds:
        found = measure(kind, roof, kernels, torch.bfloat16, layers)
        cells = [_cell(found, rows) for rows in _STEPS]
        print(kind, *cells, sep=" | ", file=sys.stderr, flush=True)
        table.add_row(kind, *cells)
    Console(width=200).print(table)
    return 0


def _cell(found: Mapping[str, Measured | str], rows: int) -> str:
    """Say how fast the best way is, and why a better one is none."""
    ways = [found[way] for way in ("fused", "packed", "stock") if way in found]
    why = next((f"  {each}" for each in ways if isinstance(each, str)), "")
    best, *others = (each for each in ways if isinstance(each, Measured))
    times = "".join(f"  x{best.tokens[rows] / each.tokens[rows]:.2f}" for each in others)
    return f"{best.tokens[rows]:.1f}  {best.shares[rows]:.0%}{times}{why}"


def _in_a_process(kind: str, seconds: float) -> Verdict:
    context = multiprocessing.get_context("fork")  # all that is imported is there already
    said: SimpleQueue[Verdict] = context.SimpleQueue()
    process = context.Process(target=_try, args=(kind, said))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return Verdict(kind, "something else", f"it took more than {seconds:g} seconds")
    return Verdict(kind, "something else", f"its process ended with {process.exitcode}") if said.empty() else said.get()


def _try(kind: str, said: "SimpleQueue[Verdict]") -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # To measure each tiny model takes long, and would be remembered.
    weights.tune = lambda _, candidates, __: ComputeChoice(*(kind[0] for kind in candidates))
    with (
        tempfile.TemporaryDirectory(prefix="gateway-architectures-") as folder,
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),  # some models print
    ):
        said.put(try_kind(kind, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
