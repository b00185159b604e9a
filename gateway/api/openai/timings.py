"""How fast an answer is made, in llama.cpp's words."""

import time
from typing import Annotated

from msgspec import Meta, Struct

from gateway.engine import Started

_MILLISECONDS = 1_000.0
_DIGITS = 3
_ACHIEVED = Meta(description="Tokens a second; 0 where there were none.", examples=[51.2])
_EACH = Meta(description="Milliseconds a token; 0 where there were none.", examples=[19.5])


class TokenTimings(Struct, frozen=True):
    """How many tokens were read and written, and how fast."""

    cache_n: Annotated[int, Meta(description="Tokens of the prompt that were found in the cache.", examples=[0])]
    prompt_n: Annotated[int, Meta(description="Tokens of the prompt that were read.", examples=[5])]
    prompt_ms: Annotated[float, Meta(description="Milliseconds that this took.", examples=[21.0])]
    prompt_per_token_ms: Annotated[float, _EACH]
    prompt_per_second: Annotated[float, _ACHIEVED]
    predicted_n: Annotated[int, Meta(description="Tokens of the answer so far.", examples=[3])]
    predicted_ms: Annotated[float, Meta(description="Milliseconds that they took.", examples=[93.0])]
    predicted_per_token_ms: Annotated[float, _EACH]
    predicted_per_second: Annotated[float, _ACHIEVED]


class TokenClock:
    """Measures one answer, from its first event on."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self._began = time.perf_counter()

    def read(self, tokens: int) -> TokenTimings:
        """Say how fast `tokens` of the answer were made until now; the prompt was read before."""
        started = self._started
        read = max((started.prompt_tokens or 0) - started.cached_tokens, 0)
        prefill, decode = started.prefill_seconds, time.perf_counter() - self._began
        return TokenTimings(started.cached_tokens, read, *_pace(read, prefill), tokens, *_pace(tokens, decode))


def _pace(tokens: int, seconds: float) -> tuple[float, float, float]:
    """Return milliseconds, milliseconds a token, and tokens a second."""
    each, achieved = seconds * _MILLISECONDS / (tokens or 1), tokens / seconds if seconds > 0 else 0.0
    return round(seconds * _MILLISECONDS, _DIGITS), round(each if tokens else 0.0, _DIGITS), round(achieved, _DIGITS)
