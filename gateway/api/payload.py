"""Request bodies: JSON, decoded strictly, every fault named by its path."""

import re
from typing import TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State
from msgspec import Raw, Struct

from gateway.api.problems import Problem

T = TypeVar("T", bound=Struct)

# Deeper and more than in any body of ours; msgspec's and Python's own limits are far beyond them.
MAX_DEPTH = 64
MAX_CONTAINERS = 32_768

_KEYS = msgspec.json.Decoder(dict[str, Raw])
_OTHER = bytes(set(range(256)) - set(b'[]{}"'))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_PLACE = re.compile(r"(.*) - at (`key` in )?`\$\.?(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


class Payload(Struct, frozen=True, eq=False):
    """The bytes of a body that says it is JSON."""

    raw: bytes

    def decode(self, decoder: msgspec.json.Decoder[T]) -> tuple[T, list[str]]:
        """Return the struct, and the keys that it does not know; raise `Problem`."""
        try:
            self.raw.decode()
            value = decoder.decode(self.raw)
            keys = _KEYS.decode(self.raw)
        except msgspec.ValidationError as error:
            raise _invalid_value(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("invalid_json", f"the body is not valid JSON: {_reason(error)}") from error
        _check_nesting(self.raw)
        known = set(value.__struct_encode_fields__)
        return value, [key for key in keys if key not in known]


async def read_payload(request: Request[None, None, State]) -> Payload:
    """Read the body; a body of another type is refused, so that no web page's plain form can post one."""
    media, _, _ = request.headers.get("content-type", "").partition(";")
    if media.strip().lower() != "application/json":
        raise Problem("unsupported_media_type")
    return Payload(await request.body())


def _check_nesting(raw: bytes) -> None:
    """Refuse valid JSON with too many levels or containers, also where nobody would look; a few passes at C speed."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = unescaped.translate(_SQUARE, _OTHER).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise Problem("invalid_json", f"the body holds more than {MAX_CONTAINERS} arrays and objects")
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise Problem("invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")


def _invalid_value(message: str) -> Problem:
    """Turn msgspec's `... - at `$.messages[0].role`` into a message with a param; repeat nothing that was sent."""
    place = _PLACE.fullmatch(message)
    what, key, param = place.groups() if place else (message, None, "")
    code = "invalid_value"
    if field := _FIELD.fullmatch(what):
        is_unknown = field[1].endswith("unknown")
        code, what = ("unsupported_parameter", "unknown") if is_unknown else (code, "this field is required")
        param = f"{param}.{field[2]}".removeprefix(".")
    elif what.startswith("Invalid enum value"):
        what = "not one of the values that this field has"
    where = f"a key of {param}" if key else param or "the body"
    return Problem(code, f"{where}: {what[:1].lower()}{what[1:]}", param=param or None)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
