"""A request's body on its way in: bounded in bytes and in time (granian bounds neither), and read to its end.

An answer to a body that was not read would end the connection while the client still sends; with the answer lost, that
is a connection error to the client in place of the reason. So what is left of a body is read before the answer, as
far as that is soon done, else while the connection is closed.
"""

import asyncio

from litestar.types import HTTPScope, Receive, ReceiveMessage

from gateway.api.http.encoding import Inflater, to_inflater
from gateway.api.http.limits import BodyLimits, UploadLimits
from gateway.api.http.problems import Problem
from gateway.flow.budget import ByteBudget

CLOSE = {"connection": "close"}

# Seconds to read on for before an answer, and again behind one that closes the connection; bytes behind it.
_DRAIN_SECONDS = 1.0
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 16 * 1024 * 1024
# Bytes of a body that is held without being counted.
_SMALL = 64 * 1024
_RETRY_SECONDS = 2
# Of a number of bytes; Python would not read one of thousands of them.
_MOST_DIGITS = 15


class IncomingBody:
    """The body of one request."""

    def __init__(self, scope: HTTPScope, receive: Receive, settings: BodyLimits, budget: ByteBudget) -> None:
        self._receive = receive
        self._budget = budget
        self._held = 0
        self._settings = settings
        headers = dict(scope["headers"])
        self._announced = headers.get(b"content-length", b"0")
        self._encoding = headers.get(b"content-encoding", b"")
        self._chunked = b"transfer-encoding" in headers
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"
        self._bytes = 0  # as they came
        self._size = 0  # unpacked
        self._until: float | None = None
        self._whole = False
        self._is_late = False
        self._inflater: Inflater | None = None

    async def receive(self) -> ReceiveMessage:
        """Return the next message; raise `Problem` for a body that is too large, too slow or broken off."""
        if self._whole:
            return await self._receive()
        if self._until is None:
            await self._begin()
        try:
            async with asyncio.timeout_at(self._piece_until()):
                message = await self._receive()
        except TimeoutError as error:
            self._is_late = True
            seconds = f"{self._settings.body_seconds:g}"
            raise Problem("body_timeout", f"the body did not arrive within {seconds} s", headers=CLOSE) from error
        self._take(message)
        return message

    @property
    def is_whole(self) -> bool:
        """Whether it was received completely."""
        return self._whole or not (self._chunked or self._announced.strip(b"0"))

    async def drain(self) -> bool:
        """Read the rest of the body, before the answer; return whether it was read to its end."""
        if self._is_asked_for or self._is_late:
            return False
        if not self._is_announced_within(self._settings.max_body_bytes):
            return False
        return await self._read_on(_DRAIN_SECONDS, self._settings.max_body_bytes)

    async def linger(self) -> None:
        """Read on after an answer that closes the connection, so that no reset overtakes the answer."""
        if not self._is_asked_for:
            await self._read_on(_LINGER_SECONDS, self._bytes + _LINGER_BYTES)

    def let_go(self) -> None:
        """Forget the connection, and give back what the body held of the budget."""
        self._receive = _receive_nothing
        self._keep(0)

    def _keep(self, size: int) -> None:
        if size < self._held:
            self._budget.give_back(self._held - size)
            self._held = size

    async def _hold(self, size: int) -> None:
        """Wait for a place in the budget of all large bodies; raise `Problem` where none comes free in time."""
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                await self._budget.take(size)
        except TimeoutError as error:
            again = {"retry-after": str(_RETRY_SECONDS)}
            raise Problem(
                "overloaded", "too many large bodies are held at the moment", headers=CLOSE | again
            ) from error
        self._held = size

    async def _begin(self) -> None:
        if not self._is_announced_within(self._settings.max_body_bytes):
            raise self._too_large()
        self._inflater = to_inflater(self._encoding, self._settings.max_body_bytes)
        is_open_ended = self._chunked or self._inflater is not None or not self._announced.isdigit()
        size = self._settings.max_body_bytes if is_open_ended else int(self._announced.lstrip(b"0") or b"0")
        if size > _SMALL and not isinstance(self._settings, UploadLimits):
            await self._hold(size)
        self._until = asyncio.get_running_loop().time() + self._settings.body_seconds

    def _piece_until(self) -> float | None:
        """Return the moment until which the next piece has to come: of an upload sooner than the whole."""
        if not isinstance(self._settings, UploadLimits) or self._until is None:
            return self._until
        return min(self._until, asyncio.get_running_loop().time() + self._settings.piece_seconds)

    @property
    def _is_asked_for(self) -> bool:
        """Whether the client waits for `100 Continue`, which it need not get."""
        return self._waits and not self._bytes

    def _is_announced_within(self, limit: int) -> bool:
        digits = self._announced.lstrip(b"0")
        return not digits.isdigit() or (len(digits) <= _MOST_DIGITS and int(digits) <= limit)

    def _take(self, message: ReceiveMessage) -> None:
        if message["type"] == "http.disconnect":
            self._whole = True
            if self._chunked:  # granian says the same of a malformed chunk, whose sender still waits for an answer
                raise Problem("invalid_json", "the body broke off, or its chunks are malformed")
            raise Problem("client_closed_request", "the client left before the body was whole")
        if message["type"] == "http.request":
            self._bytes += len(message["body"])
            self._whole = not message["more_body"]
            if self._bytes > self._settings.max_body_bytes:
                raise self._too_large()
            if self._inflater is not None:
                message["body"] = self._inflater.feed(message["body"], is_last=self._whole)
            self._size += len(message["body"])
            if self._whole:
                self._keep(self._size)

    async def _read_on(self, seconds: float, limit: int) -> bool:
        """Read and discard, up to these seconds and bytes; return whether the body was read to its end."""
        if self.is_whole:
            return True
        try:
            async with asyncio.timeout(seconds):
                while not self._whole and self._bytes <= limit:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        self._whole = True
                        return True
                    self._whole = not message["more_body"]
                    self._bytes += len(message["body"])
        except TimeoutError:
            return False
        return self._whole

    def _too_large(self) -> Problem:
        return Problem("request_too_large", f"the body may have {self._settings.max_body_bytes} bytes", headers=CLOSE)


async def _receive_nothing() -> ReceiveMessage:
    return {"type": "http.disconnect"}
