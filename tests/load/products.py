"""Hold the product of each number format against torch's in float32, by turns, in one thread.

    just products [--formats float32,bfloat16,int8,int4] [--rows 1,8,32,128] [--threads 1] [--least 0.8]

There are 80 MiB of weights of each shape, which few caches hold. A figure is the quarter of the times that was best, in
GFLOP/s of a thread, two operations for a multiplication; behind it stands its ratio to torch's by turns with it.
Many rows wait for arithmetic: where a ratio of 128 rows or more is below `--least`, the recipe names it and fails. No
answer shows that a compiler keeps sums in memory, and it makes a product half as fast.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle

import torch
from msgspec import Struct
from torch import Tensor, nn

from gateway_hf.compute.kernels import Format, Kernels
from gateway_hf.compute.packed import Packed
from gateway_hf.settings import Settings, cache_folder

# Depth and columns: the built-in model's, Qwen3-0.6B's up and down, and Llama-3.2-1B's.
SHAPES = ((576, 3072), (1024, 6144), (3072, 1024), (2048, 8192))
_MANY = 128
_BEYOND_CACHES = 80 << 20
_SECONDS = 0.6
_FEWEST = 8


class Rates(Struct):
    """Operations a second and thread of our product, and of torch's by turns with it."""

    ours: float
    stock: float

    @property
    def ratio(self) -> float:
        """Return ours to torch's."""
        return self.ours / self.stock


class Weights:
    """Weights of one shape, packed in a format, and torch's in float32."""

    def __init__(self, kernels: Kernels, form: Format, depth: int, columns: int) -> None:
        self._kernels, self.depth, self.operations = kernels, depth, 2 * depth * columns
        self._dtype = torch.bfloat16 if form is Format.BFLOAT16 else torch.float32
        plain = torch.randn(columns, depth)
        first = Packed(plain.to(self._dtype), None, form, kernels)
        size = sum(tensor.nbytes for tensor in first.tensors.values())
        more = (Packed(plain.to(self._dtype), None, form, kernels) for _ in range(_BEYOND_CACHES // size))
        self._packed = cycle([first, *more])
        self._plain = cycle([plain, *(plain.clone() for _ in range(_BEYOND_CACHES // plain.nbytes))])

    def measure(self, count: int, threads: int) -> Rates:
        """Multiply `count` rows by one weight after another, by turns with torch."""
        rows = torch.randn(count, self.depth)
        own = rows.to(self._dtype)
        ours, stock = list[float](), list[float]()
        begun = time.perf_counter()
        while time.perf_counter() - begun < _SECONDS or len(ours) < _FEWEST:
            ours.append(_seconds(lambda: self._kernels.multiply(next(self._packed).struct, own)))
            stock.append(_seconds(lambda: nn.functional.linear(rows, next(self._plain))))
        best, best_stock = (statistics.quantiles(times, n=4)[0] for times in (ours, stock))
        operations = self.operations * count / threads
        return Rates(operations / best, operations / best_stock)


def _seconds(multiply: Callable[[], Tensor]) -> float:
    begun = time.perf_counter()
    multiply()
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print; exit with 1 where a product of many rows is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default="float32,bfloat16,int8,int4", help="of weights")
    parser.add_argument("--rows", default="1,8,32,128", help="that are multiplied at a time")
    parser.add_argument(
        "--threads", default="1", help="torch keeps its own busy behind a product, so with more both are slower"
    )
    parser.add_argument("--least", default=0.8, type=float, help="ratio to torch's product, of 128 rows and more")
    options = parser.parse_args()
    forms = [Format[name.upper()] for name in options.formats.split(",")]
    counts = [int(count) for count in options.rows.split(",")]
    if max(counts) < _MANY:
        print(f"no ratio is held to --least: none is of {_MANY} rows or more", file=sys.stderr)
    slow = list[str]()
    with torch.inference_mode():
        for threads in map(int, options.threads.split(",")):
            torch.set_num_threads(threads)
            kernels = Kernels(cache_folder(Settings()), threads)
            print(f"{'threads':<9}{'format':<10}{'weight':>11}" + "".join(f"{f'{count} rows':>16}" for count in counts))
            for form in forms:
                for depth, columns in SHAPES:
                    weights, shape = Weights(kernels, form, depth, columns), f"{depth}x{columns}"
                    rates = {count: weights.measure(count, threads) for count in counts}
                    cells = (f"{each.ours / 1e9:>9.1f} {each.ratio:>6.2f}" for each in rates.values())
                    print(f"{threads:<9}{form.name.lower():<10}{shape:>11}" + "".join(cells), flush=True)
                    slow += [
                        f"{form.name.lower()} {shape} of {count} rows, {threads} threads: {each.ratio:.2f}"
                        for count, each in rates.items()
                        if count >= _MANY and each.ratio < options.least
                    ]
    if slow:
        sys.exit("slower than they should be, to torch's product:\n  " + "\n  ".join(slow))


if __name__ == "__main__":
    main()
