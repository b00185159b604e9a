"""How much may a caller use? Requests and tokens a minute, tokens a day, and requests at once."""

from gateway.limits.errors import LimitReached, RequestsExceeded, TokensExceeded, TooManyConcurrent
from gateway.limits.limiter import Allowance, Limiter
from gateway.limits.memory_store import MemoryStore
from gateway.limits.quota import RATE_HEADERS, Grant, Level, Quota
from gateway.limits.store import Store, StoreDown

__all__ = [
    "RATE_HEADERS",
    "Allowance",
    "Grant",
    "Level",
    "LimitReached",
    "Limiter",
    "MemoryStore",
    "Quota",
    "RequestsExceeded",
    "Store",
    "StoreDown",
    "TokensExceeded",
    "TooManyConcurrent",
]
