"""The answers of all replicas together, in Redis or Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from loguru import logger
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.cache.store import AnswerStore
from gateway.flow.breaker import Breaker

T = TypeVar("T")

_CONNECTIONS = 32
_MOST_BYTES = 16 * 1024 * 1024


class RedisAnswerStore(AnswerStore):
    """Keeps the answers in the server at `url` for `ttl_seconds` each; how many it keeps is the server's to say.

    Whatever takes longer than `seconds` counts as down. After a few failures in a row the server is left alone for
    some seconds, so that no request pays for it.
    """

    def __init__(
        self,
        url: str,
        ttl_seconds: float,
        *,
        seconds: float = 0.05,
        prefix: str = "llmg",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Its own time limit, not the client's: that one would not cover all of an exchange.
        pool = BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=seconds, retry=Retry(NoBackoff(), 0)
        )
        self.is_degraded = False
        self._client: Redis = Redis.from_pool(pool)
        self._ttl = max(1, round(ttl_seconds * 1_000))
        self._seconds = seconds
        self._prefix = prefix
        self._breaker = Breaker(clock)

    async def get(self, key: bytes) -> bytes | None:
        """Find an answer; nothing where the server is down."""
        found = await self._try(lambda: self._client.get(self._name(key)))
        return found if isinstance(found, bytes) else None

    async def put(self, key: bytes, answer: bytes) -> bool:
        """Keep an answer that is not too large to be sent in time."""
        if len(answer) > _MOST_BYTES:
            return False
        return bool(await self._try(lambda: self._client.set(self._name(key), answer, px=self._ttl)))

    async def has(self, key: bytes) -> bool:
        """Tell whether there is an answer; none where the server is down."""
        return bool(await self._try(lambda: self._client.exists(self._name(key))))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _try(self, exchange: Callable[[], Awaitable[T]]) -> T | None:
        attempt = self._breaker.attempt()
        if attempt is None:
            return None
        try:
            async with asyncio.timeout(self._seconds):
                answer = await exchange()
        except (RedisError, OSError, TimeoutError) as error:
            attempt.fail()
            self._tell(is_degraded=True, why=str(error) or f"no answer within {self._seconds:g} s")
            return None
        except BaseException:
            attempt.give_up()
            raise
        attempt.succeed()
        self._tell(is_degraded=False)
        return answer

    def _name(self, key: bytes) -> str:
        return f"{self._prefix}:answer:{key.hex()}"

    def _tell(self, *, is_degraded: bool, why: str = "") -> None:
        if is_degraded is self.is_degraded:
            return
        self.is_degraded = is_degraded
        if is_degraded:
            logger.bind(event="cache_degraded").warning("the store of the answers is down, nothing is kept: {}", why)
        else:
            logger.bind(event="cache_restored").info("the store of the answers is back")
