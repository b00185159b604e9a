"""The callers of the last minute, for the question whether another one may come for a spare place."""

from collections import OrderedDict

# Seconds for which a caller that came is expected to come again.
_RECENT = 60.0


class RecentCallers:
    """Remembers the last two callers that differ: one of them is another than any caller that is asked about."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def note(self, caller: str, now: float) -> None:
        """Note that `caller` has come."""
        self._seen[caller] = now
        self._seen.move_to_end(caller)
        while len(self._seen) > 2:  # noqa: PLR2004 - two, as it says
            self._seen.popitem(last=False)

    def has_other(self, caller: str, now: float) -> bool:
        """Tell whether another than `caller` has come of late."""
        return any(other != caller and now - at < _RECENT for other, at in self._seen.items())
