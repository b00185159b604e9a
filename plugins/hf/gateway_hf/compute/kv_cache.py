"""The memory of keys and values: blocks of sixteen tokens, made layer by layer when a layer is first seen."""

import torch
from torch import Tensor

from gateway_hf.compute.kernels import BLOCK, FORMATS, Format, Kernels
from gateway_hf.settings import SCALE_BYTES

_MOST = 127
# Bytes of blocks that are taken from the system before they are wanted, and of a piece of them: those of a large page.
_AHEAD = 128 << 20
_PIECE = 2 << 20


class KvCache:
    """Room for `blocks` blocks in every layer, in numbers of `dtype`, or `rounded` to 8 bits.

    With kernels a layer is `[blocks, heads, 2, size rounded up to 16, 16]` as they want it, in 8 bits with two rows of
    sixteen scales behind each head; without, it is `[2, blocks * 16, heads, size]`, keys before values, and its scales
    are `[2, blocks * 16, heads, 1]`.
    """

    def __init__(
        self,
        blocks: int,
        dtype: torch.dtype,
        device: torch.device,
        kernels: Kernels | None,
        *,
        rounded: bool = False,
    ) -> None:
        self._blocks = blocks
        self._dtype = dtype
        self._device = device
        self._kernels = kernels
        self._rounded = rounded
        self._layers: dict[int, Tensor] = {}
        self._scales: dict[int, Tensor] = {}
        self._taken: dict[int, int] = {}  # bytes of a layer

    @property
    def form(self) -> Format:
        """How the kernels find keys and values in it."""
        return Format.INT8 if self._rounded else FORMATS[self._dtype]

    def layer(self, index: int, heads: int, size: int) -> Tensor:
        """Return the room of a layer."""
        if index not in self._layers:
            self._layers[index] = self._make(heads, size)
            if self._rounded and self._kernels is None:
                self._scales[index] = torch.zeros(2, self._blocks * BLOCK, heads, 1, device=self._device)
        return self._layers[index]

    def put(self, index: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values `[tokens, heads, size]` of tokens at their slots; for a layer without kernels."""
        room = self.layer(index, *keys.shape[1:])
        for side, numbers in enumerate((keys, values)):
            if self._rounded:
                scales = numbers.float().abs().amax(-1, keepdim=True) / _MOST
                self._scales[index][side, slots] = scales
                whole = torch.where(scales > 0, numbers.float() / scales, 0).round()
                room[side, slots] = whole.to(torch.int8)
            else:
                room[side, slots] = numbers

    def held(self, index: int, side: int, slots: Tensor) -> Tensor:
        """Return the keys (`side` 0) or values (1) of `slots` `[..., heads, size]`; for a layer without kernels."""
        kept = self._layers[index][side, slots]
        if not self._rounded:
            return kept
        return (kept * self._scales[index][side, slots]).to(self._dtype)

    @property
    def nbytes(self) -> int:
        """The bytes it may come to hold; memory that was never written is not taken from the system."""
        return sum(room.nbytes for room in (*self._layers.values(), *self._scales.values()))

    @torch.inference_mode()
    def take_ahead(self, reached: int) -> bool:
        """Take a piece of the memory behind the first `reached` blocks from the system; say whether any was left.

        Where no block was used none is taken, and no used one is ever written.
        """
        if not (reached and self._layers) or self._kernels is None:
            return False
        blocks = min(self._blocks, reached + max(1, _AHEAD * self._blocks // self.nbytes))
        rooms = {index: room.view(torch.uint8) for index, room in self._layers.items()}
        sizes = {index: room.numel() // self._blocks for index, room in rooms.items()}
        starts = {index: max(self._taken.get(index, 0), reached * size) for index, size in sizes.items()}
        index = min(starts, key=lambda each: starts[each] / sizes[each])  # a step wants the blocks of all layers
        end = min(starts[index] + _PIECE, blocks * sizes[index])
        if end <= starts[index]:
            return False
        rooms[index][starts[index] : end].zero_()
        self._taken[index] = end
        return True

    def _make(self, heads: int, size: int) -> Tensor:
        dtype = torch.int8 if self._rounded else self._dtype
        if self._kernels is None:
            return torch.zeros(2, self._blocks * BLOCK, heads, size, dtype=dtype, device=self._device)
        padded = -(-size // BLOCK) * BLOCK
        token = padded + SCALE_BYTES if self._rounded else padded
        return self._kernels.room(self._blocks * heads * 2 * token * BLOCK, dtype)


def blocks_for(tokens: int) -> int:
    """Return the blocks that hold so many tokens."""
    return -(-tokens // BLOCK)
