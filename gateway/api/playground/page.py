"""The page, and the files that it is made of: they are in the package, and no other host is asked for one.

A browser gets them under an address that has a digest of them all, so it may keep each for ever, and never has files
of two releases at once.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from string import Template

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from gateway.api.exchange.dialect import Dialect
from gateway.api.http.access import PUBLIC
from gateway.api.http.packed import PackedFile
from gateway.api.playground.fields import to_fields
from gateway.flow.offload import beside

_STATIC = Path(__file__).parent / "static"
_PAGE = "index.html"
_FIELDS = "fields.json"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json"}
# Scripts and styles are files of this service, and text becomes markup only in the templates of lit-html.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types lit-html"
)
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_REFERENCE = '<a href="schema">Reference</a>'


class Playground:
    """The page of a service at `root` that speaks these dialects; with `has_docs` it leads to the reference."""

    def __init__(self, dialects: Sequence[Dialect], root: str, *, has_docs: bool) -> None:
        self._dialects = dialects
        self._root = root
        self._has_docs = has_docs

    def routes(self) -> tuple[HTTPRouteHandler, ...]:
        """Make the routes of the page and of its files; they are public, as they hold nothing of the service's."""

        @get("/", opt=PUBLIC, include_in_schema=False)
        async def front(request: Request[None, None, State]) -> Response[bytes]:
            return await (await beside(lambda: self._page)).answer(request)

        @get("/playground/{digest:str}/{file:path}", opt=PUBLIC, include_in_schema=False)
        async def part(
            digest: FromPath[str], file: FromPath[Path], request: Request[None, None, State]
        ) -> Response[bytes]:
            files = await beside(lambda: self._files)
            name = file.as_posix().lstrip("/")
            if digest != self._digest or name not in files:
                raise NotFoundException
            return await files[name].answer(request)

        return front, part

    @cached_property
    def _contents(self) -> Mapping[str, bytes]:
        found = {path.relative_to(_STATIC).as_posix(): path for path in sorted(_STATIC.rglob("*"))}
        read = {name: path.read_bytes() for name, path in found.items() if path.suffix in _TYPES}
        return read | {_FIELDS: msgspec.json.encode(to_fields(self._dialects))}

    @cached_property
    def _digest(self) -> str:
        seen = blake2b(digest_size=8)
        for name, content in self._contents.items():
            seen.update(b"%b %d %b" % (name.encode(), len(content), content))
        return seen.hexdigest()

    @cached_property
    def _files(self) -> Mapping[str, PackedFile]:
        return {name: _file(name, content) for name, content in self._contents.items()}

    @cached_property
    def _page(self) -> PackedFile:
        files = f"playground/{self._digest}"
        # A browser would ask for a module only when it has read the one that imports it.
        modules = [f'<link rel="modulepreload" href="{files}/{name}">' for name in self._contents if name[-3:] == ".js"]
        page = Template((_STATIC / _PAGE).read_text()).substitute(
            # Addresses are relative, and a prefix without its last slash would be left out of them.
            base=f'<base href="{self._root}/">' if self._root else "",
            files=files,
            modules="\n".join(modules),
            reference=_REFERENCE if self._has_docs else "",
        )
        headers = dict(_HEADERS)
        if self._root:
            headers["content-security-policy"] = _POLICY.replace("base-uri 'none'", "base-uri 'self'")
        return PackedFile("text/html", page.encode, headers)


def _file(name: str, content: bytes) -> PackedFile:
    return PackedFile(_TYPES[Path(name).suffix], lambda: content)
