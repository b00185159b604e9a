"""The packed weights of one model, in the order in which they are packed; those of an earlier start are taken so."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from gateway_hf.compute.kernels import Format, Kernels
from gateway_hf.compute.packed import Memory, NotPackable, Packed
from gateway_hf.compute.rounded import Rounded


class KeptWeights(Protocol):
    """Weights that were packed at an earlier start; `change` names what the model was changed into then."""

    change: str

    def weights(self) -> Iterator[Packed]:
        """Yield them in the order in which they were packed."""
        ...

    def discard(self) -> None:
        """Find them no more: the model says something else with them."""
        ...


class WantedWeight(NamedTuple):
    """A weight `[columns, depth]` to be packed; `make` joins it, and its bias, of what the model has."""

    columns: int
    depth: int
    make: Callable[[], tuple[Tensor | Rounded, Tensor | None]]


class Panels:
    """Packs one weight after another into memory of the kernels, or takes `kept` ones."""

    def __init__(self, kernels: Kernels, kept: KeptWeights | None = None) -> None:
        self.made: list[Packed] = []
        self.kernels = kernels
        self._kept = None if kept is None else kept.weights()

    def pack(self, wanted: WantedWeight, form: Format, memory: Memory | None = None) -> Packed:
        """Return the weight packed; raise `NotPackable` where another was packed in its place before."""
        if self._kept is None:
            packed = Packed(*wanted.make(), form, memory or self.kernels)
        else:
            found = next(self._kept, None)
            if found is None or (found.struct.columns, found.struct.depth) != (wanted.columns, wanted.depth):
                raise NotPackable("its kept weights are those of other layers")
            packed = found
        self.made.append(packed)
        return packed
