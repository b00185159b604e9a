"""The scripts and styles of the pages, from the package `offapi`: no page needs a network."""

from functools import partial
from importlib.metadata import distribution
from pathlib import Path

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from gateway.api.http.access import PUBLIC
from gateway.api.http.packed import PackedFile

_PACKAGE = distribution("offapi")
_TYPES = {
    "redoc.js": "text/javascript",
    "scalar.js": "text/javascript",
    "swagger_bundle.js": "text/javascript",
    "swagger_style.css": "text/css",
}
# ReDoc shows a picture from here; an address that is no picture is one that it leaves out.
_STRANGER = b"https://cdn.redoc.ly/redoc/"


def _read(name: str) -> bytes:
    return Path(str(_PACKAGE.locate_file(f"offapi/{name}"))).read_bytes().replace(_STRANGER, b"data:,")


_FILES = {name: PackedFile(kind, partial(_read, name)) for name, kind in _TYPES.items()}


def url(name: str, root: str) -> str:
    """Say where a page finds the file `name`, of a service at `root`; the version is a part of the address."""
    return f"{root}/schema/assets/{name}?v={_PACKAGE.version}"


@get("/schema/assets/{name:str}", opt=PUBLIC, include_in_schema=False)
async def asset(name: FromPath[str], request: Request[None, None, State]) -> Response[bytes]:
    """Answer with one file."""
    if name not in _FILES:
        raise NotFoundException
    return await _FILES[name].answer(request)
