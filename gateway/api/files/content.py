"""The bytes of a file as an answer, read from the disk as fast as the client takes them."""

import os
from functools import partial

from litestar.types import Receive, Scope, Send

from gateway.store import beside_disk

_PIECE = 64 * 1024


class FileContent:
    """An ASGI application that answers with all bytes of an open file, which it closes."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        del scope, receive
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(self._size).encode())]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            left = self._size
            while left > 0:
                piece = await beside_disk(partial(os.read, self._descriptor, min(_PIECE, left)))
                if not piece:
                    raise OSError("the file is shorter than it was")
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            if not self._size:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            os.close(self._descriptor)
