"""The store of usage: in this process, or shared by all replicas."""

from abc import ABC, abstractmethod
from typing import NoReturn

from gateway.limits.errors import RequestsExceeded, TokensExceeded, TooManyConcurrent
from gateway.limits.quota import Grant

MINUTE = 60.0
DAY = 86_400.0
# Seconds after which to try again: when one of the caller's own requests will end is not known.
_SOON = 1.0


class StoreDown(Exception):
    """The store did not answer in time, or not sensibly."""


class LimitStore(ABC):
    """Keeps the usage of callers. A day is 24 hours that begin with a caller's first request."""

    @abstractmethod
    async def take(self, grant: Grant, tokens: int) -> None:
        """Reserve a request and `tokens` tokens and fill in the grant: all of it, or raise and take nothing.

        Where `tokens` are more than a limit as a whole, the whole of it is reserved. Raises a `LimitReached`,
        or `StoreDown`.
        """

    @abstractmethod
    def settle(self, grant: Grant, used: int) -> None:
        """Give back what was reserved beyond `used`, and the place among the concurrent ones; never waits."""

    async def aclose(self) -> None:  # noqa: B027 - a store in memory has nothing to close
        """Settle what is still to be settled, and let go."""


def refuse(limit: str, grant: Grant, wait: float) -> NoReturn:
    """Raise the error of the limit that was reached: `concurrent`, `requests`, `tokens` or `day`."""
    quota = grant.quota
    match limit:
        case "concurrent":
            what = f"this key may have {quota.concurrent} requests at once"
            raise TooManyConcurrent(what, retry_after=_SOON, headers=grant.headers)
        case "requests":
            what = f"this key may make {quota.requests_per_minute} requests a minute"
            raise RequestsExceeded(what, retry_after=wait, headers=grant.headers)
        case "tokens":
            what = f"this key may use {quota.tokens_per_minute} tokens a minute"
            raise TokensExceeded(what, retry_after=wait, headers=grant.headers)
        case _:
            what = f"this key may use {quota.tokens_per_day} tokens a day"
            raise TokensExceeded(what, retry_after=wait, headers=grant.headers)
