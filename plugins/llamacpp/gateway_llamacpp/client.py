"""Ask the child over its socket: questions with one answer, and streams, which closing ends."""

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from gateway.engine import EngineError, EngineRestarted, Unavailable
from gateway_llamacpp.dialect import to_error

T = TypeVar("T")

_OK = 200
# The time in which the gateway replaces the engine's process once the child is gone. Its calls end with the process and
# are asked again where they may be; only one that is not isolated is still here after it.
_REPLACED_WITHIN = 5.0
_GONE = "the model's process has ended; it is being replaced"


class LlamaClient:
    """A pool of connections to one `llama-server`."""

    def __init__(self, socket: str, key: str) -> None:
        self._session = aiohttp.ClientSession(
            "http://llama",
            # A connection each: over a Unix socket it costs 50 µs, and none is met that the server is about to close.
            connector=aiohttp.UnixConnector(socket, limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        self.is_closed = False

    async def close(self) -> None:
        """Close every connection."""
        self.is_closed = True
        await self._session.close()

    async def is_up(self) -> bool:
        """Tell whether the model is loaded."""
        try:
            async with self._session.get("/health") as response:
                return response.status == _OK
        except (aiohttp.ClientError, OSError):
            return False

    async def get(self, path: str, kind: type[T]) -> T:
        """Return what a page says."""
        async with self._asking(), self._session.get(path) as response:
            return await _read(response, kind)

    async def ask(self, path: str, body: object, kind: type[T]) -> T:
        """Return the answer to a question."""
        async with self._asking(), self._session.post(path, data=_written(body)) as response:
            return await _read(response, kind)

    async def pieces(self, path: str, body: object) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an answer as they come; closing this closes the request."""
        async with self._asking():
            response = await self._session.post(path, data=_written(body))
            is_over = False
            try:
                if response.status != _OK:
                    raise to_error(response.status, await response.read())
                while piece := await response.content.readany():
                    yield piece
                is_over = True
            finally:
                if is_over:
                    response.release()
                else:
                    response.close()

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[None, None]:
        """Raise `EngineRestarted` where the child is gone, after the time that its replacement takes."""
        try:
            yield
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # the last says that the session is closed
            if self.is_closed:
                raise Unavailable("the engine was left") from error
            if isinstance(error, RuntimeError):
                raise
            await asyncio.sleep(_REPLACED_WITHIN)
            raise EngineRestarted(_GONE) from error


def _written(body: object) -> io.BytesIO:
    return io.BytesIO(msgspec.json.encode(body))


async def _read(response: aiohttp.ClientResponse, kind: type[T]) -> T:
    body = await response.read()
    if response.status != _OK:
        raise to_error(response.status, body)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError("llama-server answered with something else than was asked for") from error
