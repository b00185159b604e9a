"""The scripts and styles of the pages, from the package `offapi`: no page needs a network."""

import functools
import gzip
from importlib.metadata import distribution
from pathlib import Path

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from gateway.api.http.access import PUBLIC
from gateway.flow.offload import beside

_PACKAGE = distribution("offapi")
_TYPES = {
    "redoc.js": "text/javascript",
    "scalar.js": "text/javascript",
    "swagger_bundle.js": "text/javascript",
    "swagger_style.css": "text/css",
}
# ReDoc shows a picture from here; an address that is no picture is one that it leaves out.
_STRANGER = b"https://cdn.redoc.ly/redoc/"
# The version is a part of the address, so a browser may keep what it got for ever.
_HEADERS = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}


def url(name: str) -> str:
    """Say where a page finds the file `name`."""
    return f"/schema/assets/{name}?v={_PACKAGE.version}"


@get("/schema/assets/{name:str}", opt=PUBLIC, include_in_schema=False)
async def asset(name: FromPath[str], request: Request[None, None, State]) -> Response[bytes]:
    """Answer with one file, compressed for clients that accept gzip; all answers share the same bytes."""
    if name not in _TYPES:
        raise NotFoundException
    headers = dict(_HEADERS)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        body = await beside(lambda: _pack(name))
    else:
        body = await beside(lambda: _unpack(name))
    return Response(body, headers=headers, media_type=_TYPES[name])


@functools.cache
def _pack(name: str) -> bytes:
    content = Path(str(_PACKAGE.locate_file(f"offapi/{name}"))).read_bytes().replace(_STRANGER, b"data:,")
    return gzip.compress(content, compresslevel=6, mtime=0)


@functools.cache
def _unpack(name: str) -> bytes:
    return gzip.decompress(_pack(name))
