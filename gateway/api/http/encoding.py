"""Compressed request bodies: unpacked piece by piece, within bounds."""

import zlib

from gateway.api.http.problems import Problem

# What is taken, and how zlib calls it.
ENCODINGS = {b"gzip": zlib.MAX_WBITS | 16, b"x-gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_TAKEN = "gzip, deflate"
_PLAIN = frozenset({b"", b"identity"})
# A body may unpack to so many times its size; a small one to more, as texts that repeat themselves do.
_MOST_TIMES = 100
_SMALL = 1024 * 1024


class Inflater:
    """Unpacks one body to `limit` bytes at most."""

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._name = encoding.decode()
        self._limit = limit
        self._zlib = zlib.decompressobj(ENCODINGS[encoding])
        self._packed = 0
        self._unpacked = 0

    def feed(self, piece: bytes, *, is_last: bool) -> bytes:
        """Unpack the next piece; raise `Problem` where it is broken, or unpacks to too much."""
        self._packed += len(piece)
        most = min(self._limit, max(_SMALL, _MOST_TIMES * self._packed))
        try:
            text = self._zlib.decompress(piece, most - self._unpacked + 1)
        except zlib.error as error:
            raise self._broken() from error
        self._unpacked += len(text)
        if self._unpacked > most:
            raise self._too_large(most)
        if self._zlib.unused_data or (is_last and not self._zlib.eof):
            raise self._broken()
        return text

    def _broken(self) -> Problem:
        return Problem("invalid_json", f"the body is not valid {self._name}, which its content-encoding says it is")

    def _too_large(self, most: int) -> Problem:
        if most == self._limit:
            return Problem("request_too_large", f"the body may have {most} bytes, unpacked")
        return Problem("request_too_large", f"the body unpacks to more than {_MOST_TIMES} times its size")


def to_inflater(encoding: bytes, limit: int) -> Inflater | None:
    """Make what unpacks a body, if that is packed; raise `Problem` for an encoding that is not taken."""
    name = encoding.strip().lower()
    if name in _PLAIN:
        return None
    if name not in ENCODINGS:
        shown = name.decode("latin-1")
        what = f"the content-encoding {shown[:40]!r} is not taken; send the body plain, or as one of {_TAKEN}"
        raise Problem("unsupported_media_type", what, headers={"accept-encoding": _TAKEN})
    return Inflater(name, limit)
