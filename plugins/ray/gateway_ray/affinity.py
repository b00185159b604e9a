"""Which replica should answer: the one that read the beginning of the prompt before, unless it has too much to do."""

import hashlib
from collections.abc import Mapping

from gateway.engine import Prompt, beginning

# The favourite may have so many times the requests of the replica with the fewest.
_FULLER = 2


def affinity(prompt: Prompt, salt: str) -> bytes:
    """Return a key that is equal for prompts of one caller that begin alike; `salt` keeps callers apart."""
    return _digest(salt.encode(errors="surrogatepass"), beginning(prompt))


def pick(key: bytes, loads: Mapping[str, int], places: int) -> str:
    """Return the replica that should answer, by its name in `loads`, which says how many requests each has.

    It is the favourite of the key (rendezvous hashing: a replica that comes or goes moves its own keys only), but the
    one with the fewest requests where the favourite is full, or has more than twice as many.
    """
    favourite = max(loads, key=lambda name: _digest(key, name.encode()))
    least = min(loads, key=lambda name: (loads[name], name != favourite))
    is_full = bool(places) and loads[favourite] >= places
    is_busy = loads[favourite] > _FULLER * (loads[least] + 1)
    return least if is_full or is_busy else favourite


def _digest(*pieces: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(pieces), digest_size=16).digest()
