"""The HTTP client of one server: a pool of connections, its key, and the bounds of time and size."""

import asyncio
import contextlib
import io
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from gateway.engine import DeadlineExceeded, LoadFailed, Unavailable, UpstreamFailed
from gateway_openai.frames import MOST_BYTES

# Shorter than servers' own, so that hardly a request meets a connection that is just being closed.
_KEPT_SECONDS = 4.0
# A whole answer with the scores of a long prompt.
MOST_WHOLE_BYTES = 64 << 20
# The client warns of larger bodies that are sent in one piece.
_ONE_PIECE = 1 << 20
_TRIES = 2
# For the last bytes behind an answer, which as a rule are on their way.
_REST_SECONDS = 0.02
# How the client says that the server closed a connection of the pool: before a request, in its midst, or after it.
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError, BrokenPipeError)
# How the client says that a server is away, hung up, or speaks no HTTP; the last, that a connection was closed here.
_BROKEN = (aiohttp.ClientError, OSError, ValueError, RuntimeError)

T = TypeVar("T")


class Connecting(Struct, frozen=True, kw_only=True):
    """How to reach a server: `places` connections at most, `socket` the path of a Unix socket in place of its host."""

    places: int = 32
    connect_seconds: float = 5.0
    headers: dict[str, str] = {}
    ca_file: str | None = None
    socket: str | None = None


class UpstreamClient:
    """Asks one server; a context that holds the connections. Nothing is redirected, unpacked, or sent by a proxy.

    `url` is the beginning of all addresses. A body that is packed is not unpacked, since a small one may become one
    without end.
    """

    def __init__(self, url: str, connecting: Connecting) -> None:
        self.url = url.rstrip("/")
        self._connecting = connecting
        self._session: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None  # a connection of its own for each request

    @property
    def is_open(self) -> bool:
        """Whether it was entered, and not left."""
        return self._session is not None

    async def __aenter__(self) -> Self:
        """Open the pool; raise `LoadFailed` for certificates that cannot be read."""
        how = self._connecting
        trusted = None if how.socket is not None else _trusted(how.ca_file)
        self._session = self._pool(trusted, keepalive_timeout=_KEPT_SECONDS)
        self._fresh = self._pool(trusted, force_close=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        sessions, self._session, self._fresh = (self._session, self._fresh), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    def _pool(self, trusted: ssl.SSLContext | None, **kept: Any) -> aiohttp.ClientSession:  # noqa: ANN401 - as aiohttp has them
        how = self._connecting
        connector = (
            aiohttp.TCPConnector(limit=how.places, ssl=trusted or True, **kept)
            if how.socket is None
            else aiohttp.UnixConnector(how.socket, limit=how.places, **kept)
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=how.connect_seconds),
            headers={"accept-encoding": "identity"} | how.headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def send(
        self, method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[aiohttp.ClientResponse, int]:
        """Send a request and return its response with the number of repeats; the caller bounds the time and closes it.

        Where the server closed the connection before it answered, the request is sent once again on a new one: in the
        pool all may have been closed while they were idle. Raises `UpstreamFailed` where the server cannot be reached.
        """
        for repeats in range(_TRIES):
            session = self._fresh if repeats else self._session
            if session is None:
                raise Unavailable("this engine is not up")
            data = None if body is None else _payload(msgspec.json.encode(body))
            try:
                sent = session.request(method, url, data=data, headers=headers, allow_redirects=False)
                return await sent, repeats
            except aiohttp.ClientConnectorError as error:  # there never was a connection
                raise _unreached(error) from error
            except _CLOSED as error:
                if repeats == _TRIES - 1:
                    raise _unreached(error) from error
            except _BROKEN as error:
                raise _unreached(error) from error
        raise AssertionError  # the loop returns or raises

    async def ask(self, method: str, url: str, body: object = None, seconds: float = 10.0) -> tuple[int, bytes]:
        """Return the status and the body, of 64 MiB at most, of an answer that is no stream; raise `UpstreamFailed`."""
        headers = {"content-type": "application/json"} if body is not None else None
        try:
            async with asyncio.timeout(seconds):
                response, _ = await self.send(method, url, body, headers)
                try:
                    return response.status, await read_whole(response.content)
                finally:
                    response.close()
        except TimeoutError as error:
            raise _late() from error
        except _BROKEN as error:
            raise _unreached(error) from error


class Watch:
    """Closes a response that keeps still for too long: one timer an answer, however many pieces it has.

    `deadline` is the time of the end, by the loop's clock; `expect` says when there must be a sign of life.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._within = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._close: Callable[[], None] | None = None
        self._is_late = False

    def expect(self, seconds: float) -> None:
        """Wait for so many seconds from now; later times cost no timer."""
        self._within = self._loop.time() + seconds
        if self._timer is not None and self._within < self._timer.when():
            self._timer.cancel()
            self._arm()

    async def answer(self, awaited: Awaitable[T]) -> T:
        """Await the head of a response in time; raise `UpstreamFailed` or `DeadlineExceeded`."""
        try:
            async with asyncio.timeout_at(min(self._within, self._deadline)):
                return await awaited
        except TimeoutError as error:
            raise self._error() from error
        except _BROKEN as error:
            raise _unreached(error) from error

    async def read(self, content: aiohttp.StreamReader) -> bytes:
        """Return what there is of the body, empty at its end; raise `UpstreamFailed` or `DeadlineExceeded`."""
        try:
            piece = await content.readany()
        except _BROKEN as error:
            raise (self._error() if self._is_late else _unreached(error)) from error
        if self._is_late:
            raise self._error()
        return piece

    async def read_all(self, content: aiohttp.StreamReader) -> bytes:
        """Return the whole body; raise `UpstreamFailed`, also above 64 MiB, or `DeadlineExceeded`."""
        body = bytearray()
        while piece := await self.read(content):
            body += piece
            if len(body) > MOST_WHOLE_BYTES:
                raise _too_large()
        return bytes(body)

    def watch(self, response: aiohttp.ClientResponse) -> None:
        """Close `response` when it is late, until `stop`."""
        self._close = response.close
        self._arm()

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._close = None

    def _arm(self) -> None:
        until = min(self._within, self._deadline)
        self._timer = None if until == math.inf else self._loop.call_at(until, self._ring)

    def _ring(self) -> None:
        if self._loop.time() < min(self._within, self._deadline):
            self._arm()
            return
        self._timer, self._is_late = None, True
        if self._close is not None:
            self._close()

    def _error(self) -> UpstreamFailed | DeadlineExceeded:
        if self._deadline <= self._within:
            return DeadlineExceeded("the time ran out before the server behind this model had answered")
        return _late()


async def read_whole(content: aiohttp.StreamReader) -> bytes:
    """Read a body that is no stream; raise `UpstreamFailed` above 64 MiB."""
    body = bytearray()
    while piece := await content.readany():
        body += piece
        if len(body) > MOST_WHOLE_BYTES:
            raise _too_large()
    return bytes(body)


async def read_refusal(content: aiohttp.StreamReader) -> bytes:
    """Read the beginning of a refusal, up to the bound of an event."""
    body = bytearray()
    while len(body) <= MOST_BYTES and (piece := await content.readany()):
        body += piece
    return bytes(body[:MOST_BYTES])


async def read_rest(content: aiohttp.StreamReader) -> None:
    """Read to the end of a body whose answer is complete, for a moment at most: only then its connection is kept."""
    if content.at_eof():
        return
    with contextlib.suppress(TimeoutError, *_BROKEN):
        async with asyncio.timeout(_REST_SECONDS):
            while await content.readany():
                pass


def bearer(key: str, where: str) -> dict[str, str]:
    """Return the header with a key; raise `LoadFailed` for what is none: one line of printable ASCII is one."""
    if not key.isascii() or not key.isprintable() or not key:
        raise LoadFailed(f"{where} holds no key: one line of printable ASCII is one")
    return {"authorization": f"Bearer {key}"}


def read_key(file: str) -> str:
    """Read a key from a file; raise `LoadFailed`."""
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadFailed(f"the key file {file} cannot be read") from error


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= _ONE_PIECE else io.BytesIO(body)


def _too_large() -> UpstreamFailed:
    return UpstreamFailed(f"the server behind this model sent an answer of more than {MOST_WHOLE_BYTES} bytes")


def _late() -> UpstreamFailed:
    return UpstreamFailed("the server behind this model did not answer in time")


def _unreached(_: BaseException) -> UpstreamFailed:
    return UpstreamFailed("the server behind this model cannot be reached, or hung up")


def _trusted(file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # `SSLError` is one
        raise LoadFailed(f"the certificates in {file} cannot be read") from error
