"""What loads would take in memory, estimated from files beside the event loop, one estimate of an engine at a time."""

import asyncio

from gateway.hosting.hosted import HostedEngine
from gateway.hosting.resident import Resident, Stage


class Estimates:
    """The estimates under way, and whether a load was wished for meanwhile that no request waits for."""

    def __init__(self) -> None:
        self._wished: dict[Resident, bool] = {}

    def has(self, resident: Resident) -> bool:
        """Tell whether the estimate of an engine is under way."""
        return resident in self._wished

    def note(self, hosted: HostedEngine, *, is_wish: bool = False) -> None:
        """Note that an estimate begins, or that one more load waits for it."""
        self._wished[hosted.resident] = self._wished.get(hosted.resident, False) or is_wish
        hosted.waits_for = "estimating its size"

    async def make(self, hosted: HostedEngine) -> bool:
        """Estimate the size of an engine; return whether its load was wished for."""
        self.note(hosted)
        resident = hosted.resident
        try:
            size = await asyncio.to_thread(hosted.estimate)
        finally:
            is_wished, hosted.waits_for = self._wished.pop(resident, False), ""
        if size is not None and resident.stage is Stage.UNLOADED:
            resident.size = max(size, resident.size or 0)
        return is_wished
