"""The form that brings a file (`multipart/form-data`, RFC 7578), read as it comes; the file goes to the disk."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from litestar import Request
from litestar.datastructures import State
from msgspec import Struct
from multipart import (  # type: ignore[import-untyped]  # it has no types
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from gateway.api.http.problems import Problem

FILE = "file"
_MOST_PARTS = 8
_MOST_HEADERS = 8
# Bytes of a field that is no file, and of a file's name.
_FIELD_BYTES = 1_024
_NAME_BYTES = 255
_FORM = "multipart/form-data"


class UploadForm(Struct, frozen=True):
    """The fields of a form beside its file, and the file's name."""

    fields: dict[str, str]
    filename: str


class UploadReader:
    """Reads one form: texts are kept, each piece of the file is handed to `write`. Methods raise `Problem`."""

    def __init__(self, boundary: str, known: tuple[str, ...], write: Callable[[bytes], Awaitable[None]]) -> None:
        self._known = known
        self._write = write
        # What comes behind the last boundary, a line end as a rule, means nothing: that is not strict.
        self._parser = PushMultipartParser(boundary, max_header_count=_MOST_HEADERS, max_segment_count=_MOST_PARTS)
        self._part: MultipartSegment | None = None
        self._texts: dict[str, bytearray] = {}
        self._filename: str | None = None

    async def feed(self, piece: bytes) -> None:
        """Read on."""
        try:
            for event in self._parser.parse(piece):
                await self._see(event)
        except MultipartError as error:
            raise _malformed(error) from error

    def finish(self) -> UploadForm:
        """Return the whole form; raise `Problem` where it broke off, or has no file."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise _malformed(error) from error
        if self._filename is None:
            raise Problem("invalid_value", f"{FILE}: this field is required, as a file", param=FILE)
        try:
            fields = {name: text.decode() for name, text in self._texts.items()}
        except UnicodeDecodeError as error:
            raise Problem("invalid_value", "a field of the form is not UTF-8") from error
        return UploadForm(fields, self._filename)

    async def _see(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is not None and self._part is not None:
            if self._part.name == FILE:
                await self._write(bytes(event))
            else:
                self._add(self._part.name or "", event)

    def _begin(self, part: MultipartSegment) -> None:
        name, self._part = part.name or "", part
        if name == FILE:
            if self._filename is not None:
                raise Problem("invalid_value", f"{FILE}: there are two; send each file by itself", param=FILE)
            if part.filename is None:
                raise Problem("invalid_value", f"{FILE}: it has no filename, so it is no file", param=FILE)
            self._filename = part.filename[:_NAME_BYTES]
            return
        if name not in self._known:
            shown = name[:60]
            raise Problem("unsupported_parameter", f"{shown!r} is no field of this form", param=shown)
        if name in self._texts:
            raise Problem("invalid_value", f"{name}: this field is there twice", param=name)
        self._texts[name] = bytearray()

    def _add(self, name: str, piece: bytes | bytearray) -> None:
        text = self._texts[name]
        text += piece
        if len(text) > _FIELD_BYTES:
            raise Problem("invalid_value", f"{name}: it has more than {_FIELD_BYTES} bytes", param=name)


async def read_form(
    request: Request[None, None, State], known: tuple[str, ...], write: Callable[[bytes], Awaitable[None]]
) -> UploadForm:
    """Read the form of a request; raise `Problem`."""
    media = next((value for name, value in request.scope["headers"] if name == b"content-type"), b"")
    kind, options = parse_options_header(media.decode("latin-1"))
    if kind != _FORM or not options.get("boundary"):
        found = f"{_FORM} without a boundary" if kind == _FORM else kind[:60] or "none"
        raise Problem("unsupported_media_type", f"the content type is {found}; send {_FORM} (curl -F)")
    try:
        reader = UploadReader(options["boundary"], known, write)
    except MultipartError as error:
        raise _malformed(error) from error
    async for piece in _pieces(request):
        await reader.feed(piece)
    return reader.finish()


async def _pieces(request: Request[None, None, State]) -> AsyncGenerator[bytes, None]:
    has_more = True
    while has_more and (message := await request.receive())["type"] == "http.request":
        if message["body"]:
            yield message["body"]
        has_more = message["more_body"]


def _malformed(error: MultipartError) -> Problem:
    return Problem("invalid_value", f"the form is malformed: {str(error)[:200]}")
