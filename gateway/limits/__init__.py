"""Quotas of callers: requests and tokens a minute, tokens a day, and concurrent requests."""

from gateway.limits.errors import LimitReached, RequestsExceeded, TokensExceeded, TooManyConcurrent
from gateway.limits.limiter import Allowance, Limiter, PromptAllowance
from gateway.limits.memory_store import MemoryLimitStore
from gateway.limits.quota import RATE_HEADERS, Grant, Quota, Remaining
from gateway.limits.store import LimitStore, StoreDown

__all__ = [
    "RATE_HEADERS",
    "Allowance",
    "Grant",
    "LimitReached",
    "LimitStore",
    "Limiter",
    "MemoryLimitStore",
    "PromptAllowance",
    "Quota",
    "Remaining",
    "RequestsExceeded",
    "StoreDown",
    "TokensExceeded",
    "TooManyConcurrent",
]
