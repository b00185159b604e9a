"""Hold the number formats of weights against each other: what they say of fixed texts, and how long their steps take.

    just formats [--model builtin] [--formats bfloat16,int8,int4,bfloat16/int8] [--texts 32] [--rounds 2] [--json FILE]

Behind a slash stands what keys and values are kept in, if not in the model's own numbers.
Texts are the language reference that comes with Python, in pieces of 256 tokens. Each measurement has a process of its
own, one after another, round by round, so that a machine which becomes slower is slower for all. The first format is
what the others are compared with.
"""

import argparse
import math
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from pydoc_data import topics

import msgspec
import torch
from msgspec import Struct

from gateway.engine import Completion
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.loading.weights import load
from gateway_hf.sampling.score import score
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence
from gateway_hf.settings import Settings

PIECE, CONTEXT, STEPS, PREFILL = 256, 128, 24, 128
ROWS = (1, 8, 32)
FLOATS = ("float32", "bfloat16")


class FormatFound(Struct):
    """What was found of a format: the logarithms of its texts' likelihoods, its likeliest tokens, seconds, bytes."""

    logprobs: list[float]
    likeliest: list[int]
    steps: dict[int, float]
    prefill: float
    resident: int

    @property
    def perplexity(self) -> float:
        """Return e to the mean surprise, in nats, of a token."""
        return math.exp(-statistics.fmean(self.logprobs))


def measure(model: str, form: str, texts: int) -> FormatFound:
    """Load a model in a format, let it read the texts, and take the time of its steps."""
    weights, _, kept = form.partition("/")
    chosen = {"dtype": weights} if weights in FLOATS else {"quantize": weights}
    loaded = load(Settings(model=model, kv_dtype=kept or "auto", **chosen))
    words = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    ids = loaded.text.encode(Completion(words[: max(texts, 16) * PIECE * 8]))
    found = FormatFound([], [], {}, 0.0, 0)
    with torch.inference_mode():
        for at in range(texts):
            _read(loaded.forward, ids[at * PIECE : (at + 1) * PIECE], found)
        found.prefill = min(_prefill(loaded.forward, ids, at) for at in range(4))
        for rows in ROWS:
            found.steps[rows] = _step(loaded.forward, ids, rows)
    found.resident = _proportional()
    return found


def _read(forward: Forward, ids: list[int], found: FormatFound) -> None:
    sequence = _seated(ids, 0)
    sequence.ranks = 1
    for _ in range(0, PIECE, PREFILL):
        chunk = Chunk(sequence, PREFILL if sequence.computed + PREFILL < len(ids) else len(ids) - 1 - sequence.computed)
        logits, _ = forward.logits([chunk])
        score(sequence, logits)
        sequence.computed += chunk.tokens
    forward.forget(sequence)
    for own, *likeliest in sequence.scores:
        found.logprobs.append(own.logprob)
        found.likeliest.append(likeliest[0].id)


def _prefill(forward: Forward, ids: list[int], at: int) -> float:
    """Return the seconds in which `PREFILL` tokens are read."""
    sequence = _seated(ids[at * PREFILL : (at + 1) * PREFILL], 0)
    begun = time.perf_counter()
    forward.logits([Chunk(sequence, PREFILL)])
    took = time.perf_counter() - begun
    forward.forget(sequence)
    return took


def _step(forward: Forward, ids: list[int], rows: int) -> float:
    """Return the median seconds of a step in which each of so many answers gets a token."""
    sequences = [_seated(ids[at * 64 : at * 64 + CONTEXT], at) for at in range(rows)]
    for sequence in sequences:
        forward.logits([Chunk(sequence, CONTEXT)])
        sequence.computed = CONTEXT
    seconds = []
    for _ in range(STEPS):
        for sequence in sequences:
            sequence.tokens.append(sequence.tokens[-1])
        begun = time.perf_counter()
        forward.logits([Chunk(sequence, 1) for sequence in sequences])
        seconds.append(time.perf_counter() - begun)
        for sequence in sequences:
            sequence.computed += 1
    for sequence in sequences:
        forward.forget(sequence)
    return statistics.median(seconds)


def _seated(ids: list[int], place: int) -> Sequence:
    sequence = Sequence(list(ids))
    blocks = (PIECE + CONTEXT) // BLOCK
    sequence.blocks = list(range(place * blocks, (place + 1) * blocks))
    return sequence


def _proportional() -> int:
    """Return the process's share of memory (Pss), in bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _alone(*arguments: object) -> FormatFound:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def _merged(rounds: list[FormatFound]) -> FormatFound:
    """Take the best times of some rounds."""
    steps = {rows: min(each.steps[rows] for each in rounds) for rows in ROWS}
    return msgspec.structs.replace(rounds[0], steps=steps, prefill=min(each.prefill for each in rounds))


def _print(found: dict[str, FormatFound]) -> None:
    first = next(iter(found.values()))
    steps = "".join(f"{f'step of {rows}':>12}{'x':>6}" for rows in ROWS)
    print(f"{'format':<10}{'perplexity':>12}{'off':>8}{'agrees':>8}{steps}{'prefill':>12}{'x':>6}{'Pss':>9}")
    for name, each in found.items():
        alike = statistics.fmean(a == b for a, b in zip(each.likeliest, first.likeliest, strict=True))
        off = each.perplexity / first.perplexity - 1
        times = "".join(f"{each.steps[n] * 1e3:>9.2f} ms{first.steps[n] / each.steps[n]:>6.2f}" for n in ROWS)
        read = f"{PREFILL / each.prefill:>8.0f} t/s{first.prefill / each.prefill:>6.2f}"
        print(f"{name:<10}{each.perplexity:>12.3f}{off:>8.2%}{alike:>8.1%}{times}{read}{each.resident >> 20:>5} MiB")
    print(
        f"{len(first.logprobs)} tokens; `off` and `x` against {next(iter(found))}; `agrees`: the same likeliest token"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--formats", default="bfloat16,int8,int4", type=lambda text: text.split(","))
    parser.add_argument("--texts", default=32, type=int)
    parser.add_argument("--rounds", default=2, type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds: dict[str, list[FormatFound]] = {form: [] for form in options.formats}
    for _ in range(options.rounds):
        for form, list_of in rounds.items():
            print(".", end="", file=sys.stderr, flush=True)
            list_of.append(_alone(options.model, form, options.texts))
    print(file=sys.stderr)
    found = {form: _merged(list_of) for form, list_of in rounds.items()}
    _print(found)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
