"""What JSON can say of a token's score; pure."""

import math

from gateway.engine import TokenLogprob

# JSON knows no infinity; this is what others say in its place.
_LEAST = -9999.0
_BROKEN = "\N{REPLACEMENT CHARACTER}"


def to_number(logprob: float) -> float:
    """Return a number that JSON has; NaN and the infinities become the least."""
    return max(logprob, _LEAST) if math.isfinite(logprob) else _LEAST


def known_bytes(token: TokenLogprob) -> list[int] | None:
    """Return a token's bytes, or None where the engine does not say those of a part of a character."""
    return None if token.raw is None and _BROKEN in token.text else list(token.encoded)
