"""Holds callers to their limits, also while the shared store is down."""

import time
from collections.abc import Callable
from typing import Literal, Self

from loguru import logger
from msgspec import structs
from ulid import ULID

from gateway.engine import Unavailable, Usage
from gateway.flow.breaker import Attempt, Breaker
from gateway.limits.errors import LimitReached
from gateway.limits.memory_store import MemoryLimitStore
from gateway.limits.quota import Grant, Quota
from gateway.limits.store import LimitStore, StoreDown


class Limiter:
    """Asks `store`; where that is down, it counts in this process for its share, or refuses every request.

    After a few failures in a row the store is left alone for some seconds, so that no request pays for it.
    """

    def __init__(
        self,
        store: LimitStore | None = None,
        *,
        when_down: Literal["local", "refuse"] = "local",
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = MemoryLimitStore(clock)
        self._store = store or self._local
        self._when_down = when_down
        self._replicas = replicas
        self._breaker = Breaker(clock)
        self.is_degraded = False

    def hold(self, caller: str, quota: Quota, tokens: int) -> "Allowance":
        """Make the allowance of one request that may use `tokens`; enter it to have it."""
        return Allowance(self, Grant(id="" if quota.is_open else str(ULID()), caller=caller, quota=quota), tokens)

    async def take(self, grant: Grant, tokens: int) -> LimitStore:
        """Take `grant` from the store, or in its place; return where to settle it."""
        if self._store is self._local:
            await self._local.take(grant, tokens)
            return self._local
        attempt = self._breaker.attempt()
        if attempt is None:
            return await self._do_without(grant, tokens)
        try:
            await self._store.take(grant, tokens)
        except StoreDown as error:
            attempt.fail()
            self._tell(is_degraded=True, why=str(error))
            return await self._do_without(grant, tokens)
        except LimitReached:
            self._found(attempt)
            raise
        except BaseException:
            attempt.give_up()
            raise
        self._found(attempt)
        return self._store

    async def aclose(self) -> None:
        """Let go of the store."""
        await self._store.aclose()

    async def _do_without(self, grant: Grant, tokens: int) -> LimitStore:
        if self._when_down == "refuse":
            raise Unavailable("the limits of this key cannot be checked now", retry_after=self._breaker.wait or 1.0)
        grant.quota = grant.quota.share(self._replicas)
        await self._local.take(grant, tokens)
        return self._local

    def _found(self, attempt: Attempt) -> None:
        """Note that the store answered."""
        attempt.succeed()
        self._tell(is_degraded=False)

    def _tell(self, *, is_degraded: bool, why: str = "") -> None:
        if is_degraded is not self.is_degraded:
            self.is_degraded = is_degraded
            event = logger.bind(event="limits_degraded" if is_degraded else "limits_restored")
            if is_degraded:
                event.warning("the store of the limits is down ({}): {}", why, self._when_down)
            else:
                event.info("the store of the limits is back")


class Allowance:
    """What one request may use, while it is entered, with all its prompts and answers; charge what it did use."""

    def __init__(self, limiter: Limiter, grant: Grant, tokens: int) -> None:
        self.used = 0
        self._limiter = limiter
        self._grant = grant
        self._tokens = tokens
        self._store: LimitStore | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers, as it stood when this was granted."""
        return self._grant.headers

    def charge(self, usage: Usage) -> Usage:
        """Count the tokens of one generation as used; return those that were counted."""
        self.used += usage.prompt_tokens + usage.completion_tokens
        return usage

    async def __aenter__(self) -> Self:
        if not self._grant.quota.is_open:
            self._store = await self._limiter.take(self._grant, self._tokens)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.settle(self._grant, self.used)
            self._store = None


class PromptAllowance:
    """The part of an allowance for all answers to one prompt, which is counted once; the whole is entered around it."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._prompt = 0

    @property
    def headers(self) -> dict[str, str]:
        """Those of the whole."""
        return self._allowance.headers

    def charge(self, usage: Usage) -> Usage:
        """Count the tokens of one answer as used, and those of the prompt that were not counted before; return them."""
        more = max(usage.prompt_tokens - self._prompt, 0)
        self._prompt += more
        return self._allowance.charge(structs.replace(usage, prompt_tokens=more))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None
