"""Steps of loading as lines of the log: the beginning, the end, and how far it is meanwhile.

A record of a step has the fields `step` and `progress`, as `gateway.engine.progress` says; its owner is an engine.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

Write = Callable[[str], None]
StepKey = tuple[str, str]

# Seconds between two lines of a step that goes on, and the least that a step takes whose end is worth a line.
_INTERVAL = 10.0
SHORT = 1.0


class Steps(Protocol):
    """Shows how far the steps of loading are; a step is known by its owner and its name."""

    def write(self, line: str, /) -> None:
        """Write a line of the log."""
        ...

    def take(self, step: StepKey, progress: float, text: str) -> bool:
        """Take note of how far a step is; return whether its record is a line of the log."""
        ...

    def end(self, owner: str) -> None:
        """Forget the steps of an owner."""
        ...

    def close(self) -> None:
        """Forget all steps."""
        ...


class StepLines:
    """Writes a line when a step begins, every ten seconds, and at its end, unless that comes within a second."""

    def __init__(self, write: Write) -> None:
        self.write = write
        # When a step began, and when a line of it was written last.
        self._times: dict[StepKey, tuple[float, float]] = {}

    def take(self, step: StepKey, progress: float, text: str) -> bool:
        """Take note of how far a step is; return whether its record is a line of the log."""
        del text
        now = monotonic()
        begun, told = self._times.setdefault(step, (now, -_INTERVAL))
        if progress >= 1:
            del self._times[step]
            return now - begun >= SHORT
        if now - told < _INTERVAL:
            return False
        self._times[step] = begun, now
        return True

    def end(self, owner: str) -> None:
        """Forget the steps of an owner."""
        self._times = {step: times for step, times in self._times.items() if step[0] != owner}

    def close(self) -> None:
        """Forget all steps."""
        self._times = {}
