"""The plan of a run: where, with which prompts, under which loads."""

import random
from collections.abc import Iterator
from itertools import count
from typing import Literal

from msgspec import Struct

Api = Literal["native", "chat", "completions"]
Arrivals = Literal["poisson", "constant"]

_REQUESTS_PER_CLIENT = 4
_OPEN_SECONDS = 30.0


class LoadLevel(Struct, frozen=True, kw_only=True):
    """One load: `clients` that each wait for their answer, or arrivals at `rate` a second whatever the answers take.

    It begins no request after `requests` of them or after `seconds`, whichever comes first.
    """

    clients: int | None = None
    rate: float | None = None
    arrivals: Arrivals = "poisson"
    requests: int | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """Say the load in a word or two."""
        return f"{self.rate:g}/s" if self.rate is not None else str(self.clients)

    @property
    def limit(self) -> int | None:
        """Return the most requests it may begin: four a client where nothing else ends it."""
        if self.requests is None and self.seconds is None and self.clients is not None:
            return self.clients * _REQUESTS_PER_CLIENT
        return self.requests

    def schedule(self, seed: int) -> Iterator[float]:
        """Yield when each request of an open load arrives, in seconds from the beginning."""
        if self.rate is None:
            raise ValueError("only a rate has a schedule")
        gaps = random.Random(f"arrivals {seed} {self.rate}")  # noqa: S311 - a schedule is no secret
        end = _OPEN_SECONDS if self.requests is None and self.seconds is None else self.seconds
        at = 0.0
        for number in count():
            if (self.requests is not None and number >= self.requests) or (end is not None and at >= end):
                return
            yield at
            at += gaps.expovariate(self.rate) if self.arrivals == "poisson" else 1 / self.rate


class Plan(Struct, frozen=True, kw_only=True):
    """A whole run. `shared_prefix` is the share of a prompt's words that all prompts begin with."""

    url: str
    levels: tuple[LoadLevel, ...]
    api: Api | None = None
    model: str | None = None
    api_key: str | None = None
    prompt_words: int = 100
    output_tokens: int = 64
    shared_prefix: float = 0.0
    temperature: float = 0.0
    timeout: float = 600.0
    warmup: int = 1
    seed: int = 0
