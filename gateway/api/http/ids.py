"""Ids of requests: ULIDs, which are a time of 48 bits and 80 random ones in Crockford's base 32."""

import os
import time

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Ten bits at a time.
_PAIRS = tuple(first + second for first in _LETTERS for second in _LETTERS)
_LOW = 1_023
_RANDOM_BYTES = 10
# So many ids' random bytes come from the kernel with one call.
_AHEAD = 128


class RequestIds:
    """Makes ids that sort by their milliseconds; not made before a fork, for its children would make the same ones."""

    def __init__(self) -> None:
        self._random = b""
        self._at = 0
        self._millisecond = -1
        self._moment = ""

    def new(self) -> str:
        """Make an id: 26 letters and digits."""
        now = time.time_ns() // 1_000_000
        if now != self._millisecond:
            self._millisecond, self._moment = now, "".join(_PAIRS[now >> bits & _LOW] for bits in (40, 30, 20, 10, 0))
        at = self._at
        if at >= len(self._random):
            self._random, at = os.urandom(_AHEAD * _RANDOM_BYTES), 0
        self._at = at + _RANDOM_BYTES
        drawn, pairs = int.from_bytes(self._random[at : at + _RANDOM_BYTES], "big"), _PAIRS
        return (
            f"{self._moment}{pairs[drawn >> 70]}{pairs[drawn >> 60 & _LOW]}{pairs[drawn >> 50 & _LOW]}"
            f"{pairs[drawn >> 40 & _LOW]}{pairs[drawn >> 30 & _LOW]}{pairs[drawn >> 20 & _LOW]}"
            f"{pairs[drawn >> 10 & _LOW]}{pairs[drawn & _LOW]}"
        )
