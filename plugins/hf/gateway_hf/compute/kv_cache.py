"""The memory of keys and values: blocks of sixteen tokens, made layer by layer when a layer is first seen."""

import torch
from torch import Tensor

from gateway_hf.compute.kernels import BLOCK, Kernels


class KvCache:
    """Room for `blocks` blocks in every layer.

    With kernels a layer is `[blocks, heads, 2, size rounded up to 16, 16]` as they want it; without, it is
    `[2, blocks * 16, heads, size]`, keys before values.
    """

    def __init__(self, blocks: int, dtype: torch.dtype, device: torch.device, kernels: Kernels | None) -> None:
        self.dtype = dtype
        self._blocks = blocks
        self._device = device
        self._kernels = kernels
        self._layers: dict[int, Tensor] = {}

    def layer(self, index: int, heads: int, size: int) -> Tensor:
        """Return the room of a layer."""
        if index not in self._layers:
            self._layers[index] = self._make(heads, size)
        return self._layers[index]

    @property
    def nbytes(self) -> int:
        """The bytes it may come to hold; memory that was never written is not taken from the system."""
        return sum(layer.nbytes for layer in self._layers.values())

    def _make(self, heads: int, size: int) -> Tensor:
        if self._kernels is None:
            return torch.zeros(2, self._blocks * BLOCK, heads, size, dtype=self.dtype, device=self._device)
        padded = -(-size // BLOCK) * BLOCK
        return self._kernels.room(self._blocks * heads * 2 * padded * BLOCK, self.dtype)


def blocks_for(tokens: int) -> int:
    """Return the blocks that hold so many tokens."""
    return -(-tokens // BLOCK)
