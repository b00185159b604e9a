"""The errors of limits: each with a code of its own, and when to try again.

EngineError
└── LimitReached            rate_limit_exceeded     one of the caller's own limits
├── RequestsExceeded    rate_limit_exceeded     requests a minute
├── TokensExceeded      tokens_exceeded         tokens a minute, or a day
└── TooManyConcurrent   too_many_concurrent     requests at once
"""

import math
from collections.abc import Mapping

from gateway.engine import EngineError

_SECONDS = 1_000


class LimitReached(EngineError):
    """The caller has used up a limit of its own; `retry_after` is in seconds, and exact."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: float, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.headers = {
            **(headers or {}),
            "retry-after": str(max(1, math.ceil(retry_after))),
            "retry-after-ms": str(max(1, math.ceil(retry_after * _SECONDS))),
        }


class RequestsExceeded(LimitReached):
    """Too many requests in a minute."""


class TokensExceeded(LimitReached):
    """Too many tokens in a minute, or in a day."""

    code = "tokens_exceeded"


class TooManyConcurrent(LimitReached):
    """Too many requests at once."""

    code = "too_many_concurrent"
