"""Waiters per caller, and the caller with the most; constant time, since a count moves by one."""


class CallerCounts:
    """Callers, grouped by the number of their waiters."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._groups: dict[int, dict[str, None]] = {}
        self._most = 0

    def count(self, caller: str) -> int:
        """Count the waiters of `caller`."""
        return self._counts.get(caller, 0)

    def most(self) -> str:
        """Return the caller with the most, of several the first to have so many; there must be one."""
        return next(iter(self._groups[self._most]))

    def add(self, caller: str) -> None:
        """Count one more of `caller`."""
        count = self._move(caller, 1)
        self._most = max(self._most, count)

    def remove(self, caller: str) -> None:
        """Count one less of `caller`."""
        self._move(caller, -1)
        if self._most not in self._groups:
            self._most -= 1

    def _move(self, caller: str, step: int) -> int:
        before = self._counts.pop(caller, 0)
        if before:
            group = self._groups[before]
            del group[caller]
            if not group:
                del self._groups[before]
        if after := before + step:
            self._counts[caller] = after
            self._groups.setdefault(after, {})[caller] = None
        return after
