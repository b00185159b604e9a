"""Files of pages: compressed at the first request for each, and the same bytes for all answers."""

from collections.abc import Callable, Mapping
from functools import cached_property
from gzip import compress, decompress

from litestar import Request, Response
from litestar.datastructures import State

from gateway.flow.offload import beside

# For a file whose version is a part of its address: a browser may keep what it got for ever.
FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}


class PackedFile:
    """A file of a media type, whose content `read` returns; it may take some time, and is called in a thread."""

    def __init__(self, media_type: str, read: Callable[[], bytes], headers: Mapping[str, str] = FOR_EVER) -> None:
        self._media_type = media_type
        self._read = read
        self._headers = {**headers, "vary": "accept-encoding"}

    async def answer(self, request: Request[None, None, State]) -> Response[bytes]:
        """Answer with the file, compressed for a client that accepts gzip."""
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers = self._headers | {"content-encoding": "gzip"}
            return Response(await beside(lambda: self._packed), headers=headers, media_type=self._media_type)
        return Response(await beside(lambda: self._plain), headers=self._headers, media_type=self._media_type)

    @cached_property
    def _packed(self) -> bytes:
        return compress(self._read(), compresslevel=6, mtime=0)

    @cached_property
    def _plain(self) -> bytes:
        return decompress(self._packed)
