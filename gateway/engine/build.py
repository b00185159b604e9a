"""Which weights, versions and kernels answer, in a few letters."""

from functools import lru_cache
from hashlib import blake2b

from gateway.engine.types import ModelCard


def system_fingerprint(card: ModelCard) -> str | None:
    """Digest a card's `build`, or its fingerprint where it names no parts; `None` where it has neither."""
    if card.build:
        return _digest("\0".join(f"{name}={value}" for name, value in sorted(card.build.items())))
    return _digest(card.fingerprint) if card.fingerprint else None


@lru_cache(64)
def _digest(told: str) -> str:
    return f"fp_{blake2b(told.encode(), digest_size=5).hexdigest()}"
