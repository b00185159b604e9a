"""Request bodies: JSON, decoded strictly, every fault named by its path."""

import re
from typing import TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State
from msgspec import Raw, Struct

from gateway.api.problems import Problem

T = TypeVar("T", bound=Struct)

# Deeper than any body of ours; msgspec and Python's own recursion limit are far beyond it.
MAX_DEPTH = 64

_KEYS = msgspec.json.Decoder(dict[str, Raw])
_OUTSIDE = bytes(set(range(256)) - set(b"[]{}"))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_FIELD = re.compile(r"field `([^`]+)`")


class Payload(Struct, frozen=True, eq=False):
    """The bytes of a body that says it is JSON."""

    raw: bytes

    def decode(self, decoder: msgspec.json.Decoder[T]) -> tuple[T, list[str]]:
        """Return the struct, and the keys that it does not know; raise `Problem`."""
        try:
            _check_depth(self.raw)
            self.raw.decode()
            value = decoder.decode(self.raw)
            keys = _KEYS.decode(self.raw)
        except msgspec.ValidationError as error:
            raise _invalid_value(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("invalid_json", f"the body is not valid JSON: {_reason(error)}") from error
        return value, sorted(keys.keys() - set(value.__struct_encode_fields__))


async def provide_payload(request: Request[None, None, State]) -> Payload:
    """Read the body; a body of another type is refused, so that no web page's plain form can post one."""
    media, _, _ = request.headers.get("content-type", "").partition(";")
    if media.strip().lower() != "application/json":
        raise Problem("unsupported_media_type")
    return Payload(await request.body())


def _check_depth(raw: bytes) -> None:
    """Refuse nesting beyond `MAX_DEPTH`, also where nobody would look; a few passes at C speed."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    outside = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside.translate(_SQUARE, _OUTSIDE)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if brackets.startswith(b"[["):
        raise Problem(
            "invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels, or its brackets do not match"
        )


def _invalid_value(message: str) -> Problem:
    """Turn msgspec's `... - at `$.messages[0].role`` into a message with a param."""
    what, _, path = message.partition(" - at ")
    param = path.strip("`").removeprefix("$").removeprefix(".")
    missing = _FIELD.search(what)
    if missing:
        param = f"{param}.{missing[1]}".removeprefix(".")
        what = "this field is required"
    where = param or "the body"
    return Problem("invalid_value", f"{where}: {what[:1].lower()}{what[1:]}", param=param or None)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
