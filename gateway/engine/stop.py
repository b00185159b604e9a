"""Stop strings over streamed text: hold back what may become one, cut at the first, flush at the end."""


class StopStrings:
    """Cuts a stream of text before the stop string that is completed first, or behind it where it is `shown`.

    Where two are completed by the same character the longer one counts, so the cut does not depend on how the text
    was split. Text is held back only while it may still become a stop string; each piece is searched once.
    """

    def __init__(self, stops: tuple[str, ...], *, shown: bool = False) -> None:
        self._stops = stops
        self._shown = shown
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """Take the next piece and return what may be shown; sets `found` when a stop string is complete."""
        if not self._stops or self.found is not None:
            return "" if self.found is not None else text
        text = self._held + text
        matches = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if matches:
            end, at, self.found = min(matches)
            self._held = ""
            return text[: end if self._shown else at]
        keep = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back; the text ended without completing a stop string."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return len(text) - at
        at = text.find(stop[0], at + 1)
    return 0
