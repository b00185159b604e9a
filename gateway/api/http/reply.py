"""A whole JSON answer as an ASGI application."""

from collections.abc import Mapping

from litestar.types import Receive, Scope, Send


class JsonReply:
    """Sends `body` with the `headers`, in two messages; Litestar's response asks of each what it may be, at 20 µs."""

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        self._body = body
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        del scope, receive
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self._body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
