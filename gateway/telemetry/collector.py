"""The session with a collector: reads an answer of bounded size within a bounded time, whatever the collector sends."""

import http.client
import io
import time
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

# An answer names at most the spans that were refused; packed, it may unpack to a thousand times as much.
_MOST_BYTES = 16 * 1024
_MOST_SECONDS = 2.0


class _BoundedSource(io.RawIOBase):
    """Reads the bytes of one answer, head and all; raises `ConnectionError` for too many, or too late ones."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source
        self._left = _MOST_BYTES
        self._until = time.monotonic() + _MOST_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - any writable buffer
        if self._left <= 0 or time.monotonic() > self._until:
            raise ConnectionError("the collector's answer does not end")
        count = self._source.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _BoundedAnswer(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - http.client's own
        super().__init__(*arguments, **options)
        self.fp = io.BufferedReader(_BoundedSource(self.fp.detach()))


class _PlainConnection(HTTPConnection):
    response_class = _BoundedAnswer


class _SecureConnection(HTTPSConnection):
    response_class = _BoundedAnswer


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection  # pyright: ignore[reportAssignmentType]  # as urllib3 itself has it


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection  # pyright: ignore[reportAssignmentType]  # as urllib3 itself has it


class _BoundedAdapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - requests' own
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - requests' own
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
        return manager


def bounded_session() -> Session:
    """Make the session; an answer without an end is an error of the connection, which the exporter counts as a loss."""
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter())
    return session
