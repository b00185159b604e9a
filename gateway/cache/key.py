"""What makes two requests the same, and what their client wishes."""

import hashlib
from enum import Enum, auto

import msgspec

from gateway.engine import GenerateRequest, ModelCard

_VERSION = 2

# Lengths come before texts, so no two requests are written alike. Keys keep their order: that of a schema's
# properties is the order of the answer.
_encode = msgspec.msgpack.Encoder().encode


class CachePolicy(Enum):
    """What a request lets the cache do."""

    ANY = auto()
    REFRESH = auto()  # keep the answer, but make it anew
    NO_STORE = auto()  # neither read nor keep


def key_of(request: GenerateRequest, card: ModelCard, caller: str) -> bytes | None:
    """Make the key of a request's answer for one caller; `None` where it need not be the same twice.

    What says nothing of the answer is no part of it: the id, the trace, the time, the priority.
    """
    sampling = card.under(request.defaults).under(request.sampling).defaults
    if not card.fingerprint or (sampling.temperature != 0 and sampling.seed is None):
        return None
    what = (request.prompt, request.truncate, request.truncation_side, sampling, request.constraint)
    parts = (_VERSION, card.name, card.fingerprint, caller, request.salt, what)
    return hashlib.sha256(_encode(parts)).digest()


def cache_policy(cache_control: str) -> CachePolicy:
    """Read a request's `Cache-Control` header."""
    words = {word.strip().lower() for word in cache_control.split(",")}
    if "no-store" in words:
        return CachePolicy.NO_STORE
    return CachePolicy.REFRESH if words & {"no-cache", "max-age=0"} else CachePolicy.ANY
