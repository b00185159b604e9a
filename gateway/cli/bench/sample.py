"""The measurements of one request."""

from msgspec import Struct, field


class Sample(Struct, kw_only=True):
    """One request; times are of the monotonic clock, in seconds. Tokens are the server's own count.

    It was `due` when it was to be sent, and `sent` when it was. `gaps` are the pauses between frames that bear text.
    """

    due: float
    sent: float
    first: float | None = None
    last: float | None = None
    ended: float = 0.0
    gaps: list[float] = field(default_factory=list)
    frames: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    error: str | None = None

    def hear(self, now: float) -> None:
        """Note that text arrived."""
        self.frames += 1
        if self.last is None:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.last = now
