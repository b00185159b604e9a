"""The kernels' structs and calls; their contracts stand in `native/`.

Nothing here copies: a struct holds addresses of tensors that its owner keeps alive.
"""

import ctypes
from collections.abc import Sequence as Some
from ctypes import Array, Structure, c_double, c_float, c_int32, c_void_p
from enum import IntEnum
from pathlib import Path

import torch
from torch import Tensor

from gateway_hf.compute import native

# The tokens in a block of the cache, in the kernels and in everything else that counts blocks.
BLOCK = 16
# The numbers in a head, and those between the two halves of an adapter, at most: the kernels keep them on the stack.
LARGEST_HEAD = 512
LARGEST_RANK = 512


class Format(IntEnum):
    """How numbers are stored."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3


# The cosines and sines of rows, or none where nothing turns.
Turning = tuple[Tensor, Tensor] | None

FORMATS = {torch.float32: Format.FLOAT32, torch.bfloat16: Format.BFLOAT16}


class Linear(Structure):
    """A packed weight `[columns, depth]`; a `narrow` one of bytes has none beyond 64, and 64 added to all."""

    _fields_ = (
        *((name, c_int32) for name in ("format", "columns", "depth", "group", "narrow", "unused")),
        *((name, c_void_p) for name in ("panels", "bias", "scales", "sums")),
    )


class BatchStruct(Structure):
    """Which rows of a forward pass belong to which sequence, and where that one's cache lies."""

    _fields_ = (
        *((name, c_int32) for name in ("sequences", "rows")),
        *((name, c_void_p) for name in ("starts", "past", "tables")),
        *((name, c_int32) for name in ("width", "unused")),
    )


class Heads(Structure):
    """The attention of one layer: `queries` and `keys` heads of `size`, its cache, and the sinks of queries or null."""

    _fields_ = (
        *((name, c_int32) for name in ("queries", "keys", "size", "window")),
        *((name, c_float) for name in ("scale", "cap")),
        *((name, c_void_p) for name in ("cache", "sinks")),
    )


class LowRankStruct(Structure):
    """A packed change of a linear layer, to be added from `column` on; none where it is all zeros."""

    _fields_ = (("down", Linear), ("up", Linear), ("column", c_int32), ("unused", c_int32))


class NormKind(IntEnum):
    """What a norm divides by: the root of the mean square, or the deviation around the mean."""

    NONE = 0
    SQUARE = 1
    CENTERED = 2


class HeadNorm(IntEnum):
    """What the norms of queries and keys run over."""

    EACH_HEAD = 0
    OWN_WEIGHTS = 1
    ALL_HEADS = 2


class NormStruct(Structure):
    """A norm, float32; all zeros where there is none."""

    _fields_ = (
        *((name, c_void_p) for name in ("weight", "bias")),
        ("eps", c_float),
        ("kind", c_int32),
    )


class Layer(Structure):
    """A whole decoder layer; `adapters`, rows of `LowRankStruct`, one a linear layer, and `experts` may be null."""

    _fields_ = (
        ("heads", Heads),
        *((name, Linear) for name in ("qkv", "out", "up", "down")),
        *((name, NormStruct) for name in ("before", "attended", "between", "after", "query", "key")),
        ("scale", c_float),
        *((name, c_int32) for name in ("hidden", "inner", "rotary", "activation", "gated", "parallel")),
        *((name, c_int32) for name in ("head_norm", "norm_last")),
        ("adapters", c_void_p),
        ("experts", c_void_p),
    )


class Scoring(IntEnum):
    """What a router makes of its products."""

    SOFTMAX = 0
    SIGMOID = 1


class ExpertsStruct(Structure):
    """A mixture of experts; `ups` and `downs` are rows of `Linear`, and `favour` is null where it is none."""

    _fields_ = (
        ("router", Linear),
        *((name, c_void_p) for name in ("favour", "ups", "downs")),
        *((name, c_float) for name in ("scale", "limit", "plus")),
        *((name, c_int32) for name in ("count", "chosen", "scoring", "normalised", "inner", "activation", "weighed")),
    )


class EncoderLayer(Structure):
    """A whole layer of an encoder of BERT's kind."""

    _fields_ = (
        *((name, Linear) for name in ("qkv", "out", "up", "down")),
        *((name, c_void_p) for name in ("norm", "norm_bias", "second_norm", "second_bias")),
        *((name, c_float) for name in ("eps", "scale")),
        *((name, c_int32) for name in ("heads", "size", "activation", "unused")),
    )


class DrawStruct(Structure):
    """How a row of logits is drawn from; `top_k` 0 means from all, and `level` is from `(0, 1]`."""

    _fields_ = (
        *((name, c_int32) for name in ("row", "top_k")),
        *((name, c_float) for name in ("temperature", "min_p")),
        *((name, c_double) for name in ("top_p", "level")),
    )


class Kernels:
    """A team of threads and its room; used by one thread at a time. Raises `native.NotBuiltError`."""

    def __init__(self, cache: Path, threads: int) -> None:
        self._library = native.library(cache)
        self._self = self._library.kernels_new(threads)

    def __del__(self) -> None:
        if hasattr(self, "_self"):
            self._library.kernels_free(self._self)

    def begin(self, batch: BatchStruct) -> None:
        """Cut a batch into parts, before the layers of a forward pass; it must live as long as they run."""
        self._library.kernels_begin(self._self, ctypes.byref(batch))

    def adapt(self, spans: Some[tuple[int, int, int]]) -> None:
        """Say which rows `[from, to)` of the passes that follow are of which adapter, counted from 0."""
        numbers = [number for span in spans for number in span]
        self._library.kernels_adapt(self._self, (c_int32 * len(numbers))(*numbers), len(spans))

    def change(self, adapters: Array[LowRankStruct], x: Tensor, y: Tensor) -> None:
        """Add to `y` `[rows, columns]` what the adapters of the rows make of `x` `[rows, depth]`, both float32."""
        self._library.kernels_change(
            self._self, ctypes.byref(adapters), x.data_ptr(), x.shape[-1], y.data_ptr(), y.shape[-1]
        )

    def run_layers(
        self, layers: Some[tuple[int, Turning]], batch: BatchStruct, form: Format, states: Tensor, begun: int
    ) -> None:
        """Run decoder layers in place over float32 `states` `[rows, hidden]`; `form` is the cache's.

        Each is the address of a `Layer`, with the cosines and sines `[rows, rotary]` of the rows' positions, or none
        where nothing turns. The number at the address `begun`, an int64, counts layers as they begin.
        """
        pairs = (turns or (None, None) for _, turns in layers)
        turns = [None if each is None else each.data_ptr() for pair in pairs for each in pair]
        self._library.kernels_layers(
            *(self._self, (c_void_p * len(layers))(*(address for address, _ in layers)), len(layers)),
            *(ctypes.byref(batch), form, states.data_ptr(), (c_void_p * len(turns))(*turns), begun),
        )

    def encode(self, layers: Array[EncoderLayer], starts: Tensor, states: Tensor) -> None:
        """Run an encoder's layers in place over the float32 `states` `[rows, hidden]` of texts.

        Text `i` is rows `[starts[i], starts[i + 1])`; `starts` are int32.
        """
        self._library.kernels_encode(
            *(self._self, ctypes.byref(layers), len(layers)),
            *(starts.data_ptr(), starts.shape[0] - 1, states.data_ptr()),
        )

    def multiply(self, weight: Linear, x: Tensor) -> Tensor:
        """Return `x` `[rows, depth]` times the weight: float32 `[rows, columns]`."""
        out = torch.empty(x.shape[0], weight.columns)
        self._library.kernels_linear(
            self._self, ctypes.byref(weight), FORMATS[x.dtype], x.data_ptr(), x.shape[0], out.data_ptr()
        )
        return out

    def draw(self, logits: Tensor, draws: Array[DrawStruct]) -> list[int]:
        """Draw a token for each of some rows of float32 `logits` `[rows, vocabulary]`; -1 where they are no numbers."""
        tokens = (c_int32 * len(draws))()
        self._library.kernels_draw(
            *(self._self, logits.data_ptr(), logits.shape[-1], ctypes.byref(draws), len(draws), ctypes.byref(tokens))
        )
        return list(tokens)

    def attend(self, heads: Heads, batch: BatchStruct, form: Format, qkv: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Remember keys and values and attend: float32 `[rows, heads, size]` in and out; `form` is the cache's."""
        q, k, v = qkv
        out = torch.empty_like(q)
        self._library.kernels_attend(
            *(self._self, ctypes.byref(heads), ctypes.byref(batch), form),
            *(q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr()),
        )
        return out

    def room(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return memory, not yet touched, in pages as large as the system has them."""
        memory = torch.empty(size, dtype=dtype)
        self.advise(memory)
        return memory

    def advise(self, memory: Tensor) -> None:
        """Ask the system for large pages, before memory is touched."""
        self._library.kernels_advise(memory.data_ptr(), memory.nbytes)
