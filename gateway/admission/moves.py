"""Waking those that watch something that moves."""

import asyncio


class Moves:
    """Tells the watchers of a thing that it moved; their event is made on demand, for mostly there is none."""

    def __init__(self) -> None:
        self._next: asyncio.Event | None = None

    @property
    def next(self) -> asyncio.Event:
        """The event of the next move."""
        if self._next is None:
            self._next = asyncio.Event()
        return self._next

    def tell(self) -> None:
        """Wake those that watch."""
        if self._next is not None:
            self._next.set()
            self._next = None
