"""The limits of one process, in its memory."""

import time
from collections.abc import Callable

from gateway.flow.bucket import TokenBucket
from gateway.limits.quota import Grant, Remaining
from gateway.limits.store import DAY, MINUTE, LimitStore, refuse


class _Account:
    """What one caller has used."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.requests = TokenBucket(0, 0, clock)
        self.tokens = TokenBucket(0, 0, clock)
        self.running: set[str] = set()
        self.day = clock()
        self.day_used = 0.0


class MemoryLimitStore(LimitStore):
    """Keeps an account a caller; callers are keys, so there are as many as keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def take(self, grant: Grant, tokens: int) -> None:
        """Reserve a request and its tokens, or raise a `LimitReached`."""
        quota, account = grant.quota, self._account(grant)
        grant.tokens = min(tokens, quota.tokens_per_minute or 0)
        grant.day_tokens = min(tokens, quota.tokens_per_day or 0)
        grant.day = account.day
        if reached := self._reached(grant, account):
            _tell(grant, account)
            refuse(reached[0], grant, reached[1])
        account.running.add(grant.id)
        if quota.requests_per_minute:
            account.requests.reserve(1)
        account.tokens.reserve(grant.tokens)
        account.day_used += grant.day_tokens
        _tell(grant, account)

    def settle(self, grant: Grant, used: int) -> None:
        """Take back what was not used; only once."""
        account = self._accounts.get(grant.caller)
        if account is None or grant.id not in account.running:
            return
        account.running.remove(grant.id)
        if grant.quota.tokens_per_minute:
            account.tokens.settle(grant.tokens, used)
        if grant.quota.tokens_per_day and account.day == grant.day:
            account.day_used += used - grant.day_tokens

    def _account(self, grant: Grant) -> _Account:
        """Find the caller's account, with the limits as they are now."""
        account = self._accounts.get(grant.caller)
        if account is None:
            account = self._accounts[grant.caller] = _Account(self._clock)
        for bucket, limit in (
            (account.requests, grant.quota.requests_per_minute),
            (account.tokens, grant.quota.tokens_per_minute),
        ):
            if bucket.capacity != (limit or 0):
                bucket.until_full()  # what was spent is paid back at the old rate up to now
                bucket.capacity, bucket.rate = limit or 0, (limit or 0) / MINUTE
        if self._clock() - account.day >= DAY:
            account.day, account.day_used = self._clock(), 0.0
        return account

    def _reached(self, grant: Grant, account: _Account) -> tuple[str, float] | None:
        """Return the limit that is reached, and for how many seconds."""
        quota = grant.quota
        if quota.concurrent and len(account.running) >= quota.concurrent:
            return "concurrent", 0.0
        if quota.requests_per_minute and (wait := account.requests.wait(1)):
            return "requests", wait
        if quota.tokens_per_minute and (wait := account.tokens.wait(grant.tokens)):
            return "tokens", wait
        if quota.tokens_per_day and account.day_used + grant.day_tokens > quota.tokens_per_day:
            return "day", account.day + DAY - self._clock()
        return None


def _tell(grant: Grant, account: _Account) -> None:
    quota = grant.quota
    if quota.requests_per_minute:
        grant.requests_level = _level(account.requests, quota.requests_per_minute)
    if quota.tokens_per_minute:
        grant.tokens_level = _level(account.tokens, quota.tokens_per_minute)


def _level(bucket: TokenBucket, limit: int) -> Remaining:
    return Remaining(limit, int(bucket.level + 1e-6), bucket.until_full())
