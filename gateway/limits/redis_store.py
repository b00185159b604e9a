"""The limits of all replicas together, in Redis or Valkey."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from loguru import logger
from msgspec import structs
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.flow.tasks import Tasks
from gateway.limits.quota import Grant, Remaining
from gateway.limits.redis_scripts import SETTLE, TAKE
from gateway.limits.store import LimitStore, StoreDown, refuse

_CONNECTIONS = 32
_OWED = 10_000
_REACHED = ("", "concurrent", "requests", "tokens", "day")


class _Due(NamedTuple):
    """A grant that is over, and what it used."""

    grant: Grant
    used: int


class RedisLimitStore(LimitStore):
    """Keeps the accounts in the server at `url`; whatever takes longer than `seconds` counts as down.

    A grant that is never settled, because its process died, is given up after `lease` seconds: more than any request
    takes.
    """

    def __init__(self, url: str, *, seconds: float = 0.05, lease: float = 900.0, prefix: str = "llmg") -> None:
        # Its own time limit, not the client's: that one would not cover all of an exchange.
        pool = BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=seconds, decode_responses=True, retry=Retry(NoBackoff(), 0)
        )
        self._client: Redis = Redis.from_pool(pool)
        self._seconds = seconds
        self._lease = lease
        self._prefix = prefix
        self._take = self._client.register_script(TAKE)
        self._settle = self._client.register_script(SETTLE)
        self._tasks = Tasks()
        self._owed: deque[_Due] = deque(maxlen=_OWED)
        self._settling: asyncio.Task[None] | None = None

    async def take(self, grant: Grant, tokens: int) -> None:
        """Reserve in the server. A caller that leaves meanwhile leaves nothing reserved behind."""
        if self._settling is not None and not self._settling.done():
            # So that a caller that comes back finds its grant given back.
            await asyncio.wait({self._settling}, timeout=self._seconds)
        grant.tokens = min(tokens, grant.quota.tokens_per_minute or 0)
        grant.day_tokens = min(tokens, grant.quota.tokens_per_day or 0)
        task = self._tasks.start(self._reserve(grant, tokens))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: self._undo(done, grant))
            raise
        except StoreDown:
            self._owe(grant, 0)  # it may have arrived all the same
            raise

    def settle(self, grant: Grant, used: int) -> None:
        """Settle as soon as the server answers; never waits."""
        self._owe(grant, used)
        self._start_settling()

    async def aclose(self) -> None:
        """Settle what the server takes within the time limit, and close the connections."""
        await self._tasks.wait()
        self._start_settling()
        if self._settling is not None:
            await asyncio.wait({self._settling})
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _reserve(self, grant: Grant, tokens: int) -> None:
        quota = grant.quota
        limits = (quota.requests_per_minute, quota.tokens_per_minute, quota.tokens_per_day, quota.concurrent)
        wanted: list[str | float] = [grant.id, tokens, *(limit or 0 for limit in limits), self._lease]
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._take(keys=self._keys(grant), args=wanted)
            reached, wait = _read(grant, answer)
        except (RedisError, OSError, TimeoutError, ValueError, TypeError, LookupError) as error:
            raise StoreDown(str(error) or f"no answer within {self._seconds:g} s") from error
        if self._owed:
            self._start_settling()
        if reached:
            refuse(reached, grant, wait)

    def _undo(self, task: asyncio.Task[None], grant: Grant) -> None:
        """Give back a grant whose caller had left when it was made."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            self.settle(grant, 0)
        elif isinstance(error, StoreDown):
            self._owe(grant, 0)

    def _owe(self, grant: Grant, used: int) -> None:
        self._owed.append(_Due(structs.replace(grant), used))

    def _start_settling(self) -> None:
        if self._owed and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._settle_all())

    async def _settle_all(self) -> None:
        """Settle one after another; what the server does not take now waits until it answers again."""
        while self._owed:
            grant, used = due = self._owed.popleft()
            reserved = (grant.tokens, grant.quota.tokens_per_minute or 0, grant.day_tokens, repr(grant.day))
            try:
                async with asyncio.timeout(self._seconds):
                    await self._settle(keys=self._keys(grant), args=(grant.id, used, *reserved))
            except ResponseError as error:  # it would refuse it again
                logger.bind(event="limits_unsettled").warning("a request could not be settled: {}", error)
            except (RedisError, OSError, TimeoutError):
                self._owed.appendleft(due)
                return

    def _keys(self, grant: Grant) -> Sequence[str]:
        """Return the names of a caller's records; the braces keep them on one node of a cluster."""
        return f"{self._prefix}:{{{grant.caller}}}", f"{self._prefix}:{{{grant.caller}}}:running"


def _read(grant: Grant, answer: Sequence[str]) -> tuple[str, float]:
    """Fill in the grant from the server's answer; return the limit that was reached, if any, and the wait."""
    reached = answer[0]
    if reached not in _REACHED:
        raise ValueError(f"an unknown limit {reached!r}")
    wait, grant.tokens, grant.day_tokens, grant.day, *levels = map(float, answer[1:])
    requests_left, requests_reset, tokens_left, tokens_reset = levels
    quota = grant.quota
    if quota.requests_per_minute:
        grant.requests_level = Remaining(quota.requests_per_minute, int(requests_left + 1e-6), requests_reset)
    if quota.tokens_per_minute:
        grant.tokens_level = Remaining(quota.tokens_per_minute, int(tokens_left + 1e-6), tokens_reset)
    return reached, wait
