"""How the engine shows that it gets on, while no letter comes of it yet."""

import ctypes


class StepCount:
    """Counts what is done, in pieces of any size: a layer of a pass, a prompt that was read.

    Any thread may count, and the kernels too, at the `address` of an int64. Where two do so at once a piece may be
    lost, but the count moves all the same.
    """

    def __init__(self) -> None:
        self._count = ctypes.c_int64()
        self.address = ctypes.addressof(self._count)

    @property
    def count(self) -> int:
        """The pieces so far."""
        return self._count.value

    def tick(self) -> None:
        """Count one piece."""
        self._count.value += 1
