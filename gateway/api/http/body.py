"""Request bodies: JSON, decoded strictly, every fault named by its path."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar, cast
from urllib.parse import quote

import msgspec
from litestar import Request
from litestar.datastructures import State
from msgspec import Raw, Struct, structs

from gateway.api.http.directions import wrong_content_type
from gateway.api.http.large_bodies import LARGE, PASSES, turns
from gateway.api.http.problems import Problem
from gateway.api.http.unknown_fields import UnknownField, bounded, refuse_wrong
from gateway.api.http.validation import invalid_value
from gateway.config import ServerSettings

T = TypeVar("T")

_MOST_NAMED = 16
_LONGEST_NAME = 60

# Deeper and more than in any body of ours; msgspec's and Python's own limits are far beyond them.
MAX_DEPTH = 64
MAX_CONTAINERS = 32_768
# Names and texts, and values in lists and objects: the event loop stands while they are read, for a microsecond an
# unknown name and for 25 ms where there are as many numbers as this.
MAX_STRINGS = 50_000
MAX_VALUES = 262_144

# Bytes to look for a mark in, before its marks are counted.
_WINDOW = 64 * 1024

_KEYS = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(list[dict[str, Raw]])
_OTHER = bytes(set(range(256)) - set(b'[]{}"'))
_SQUARE = bytes.maketrans(b"{}", b"[]")


class RequestBody(Struct, frozen=True, eq=False):
    """The bytes of a body that says it is JSON."""

    raw: bytes

    def decode(self, decoder: msgspec.json.Decoder[T]) -> tuple[T, list[str]]:
        """Return the struct, and the paths of the keys that it does not know; raise `Problem`."""
        try:
            if not self.raw.isascii():
                self.raw.decode()
            _check_size(self.raw)
            value = decoder.decode(self.raw)
            unknown = list(bounded(_unknown(cast("Struct", value), _KEYS.decode(self.raw))))
        except msgspec.ValidationError as error:
            kind = cast("type[Struct]", decoder.type)
            self._look_for_another_name(error, kind)
            raise invalid_value(error, self.raw, kind) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem("invalid_json", self._reason(error)) from error
        _check_nesting(self.raw)
        if unknown:
            refuse_wrong(unknown)
        return value, [field.path for field in unknown]

    def _look_for_another_name(self, error: msgspec.ValidationError, kind: type[Struct]) -> None:
        """Raise `Problem` where a field is missing because it was called otherwise."""
        with suppress(msgspec.DecodeError, RecursionError):  # behind the fault there may be no JSON any more
            if "missing required field" in str(error):
                fields = _fields(kind)
                parts = _KEYS.decode(self.raw)
                unknown = (UnknownField(key, key, kind, part) for key, part in parts.items() if key not in fields)
                refuse_wrong(bounded(unknown))

    def _reason(self, error: Exception) -> str:
        if not self.raw.strip():
            return "the body is empty"
        if isinstance(error, RecursionError):
            return "the body is not valid JSON: it is nested too deeply"
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        return f"the body is not valid JSON: {reason}"


async def read_body(request: Request[None, None, State]) -> RequestBody:
    """Read the body; a body of another type is refused, so that no web page's plain form can post one."""
    media = next((value for name, value in request.scope["headers"] if name == b"content-type"), b"")
    if media.partition(b";")[0].strip().lower() != b"application/json":
        raise wrong_content_type(media)
    # `request.body()` counts the bytes again, which the layer around all routes has done, and takes five times as long.
    pieces: list[bytes] = []
    has_more = True
    while has_more and (message := await request.receive())["type"] == "http.request":
        pieces.append(message["body"])
        has_more = message["more_body"]
    raw = b"".join(pieces)
    pieces.clear()  # while this waits for its turn
    if len(raw) > LARGE:
        await turns.wait(PASSES * len(raw))
    return RequestBody(raw)


def name_ignored(keys: list[str], settings: ServerSettings) -> dict[str, str]:
    """Name unknown keys: in a header, or in an error if the configuration is strict."""
    if keys and settings.strict:
        refused = f"unknown, which server.strict refuses: {', '.join(keys)}"
        raise Problem("unsupported_parameter", refused, param=keys[0])
    if not keys:
        return {}
    # What a header cannot hold is written as in a URL; of very many keys the first are named.
    named = [quote(key, safe="[]$ ") or '""' for key in keys[:_MOST_NAMED]]
    more = [f"and {len(keys) - _MOST_NAMED} more"] if len(keys) > _MOST_NAMED else []
    return {"x-ignored-params": ",".join(name[:_LONGEST_NAME] for name in named + more)}


def _check_size(raw: bytes) -> None:
    """Refuse more strings or values than can be read in a moment, before they are; some passes at C speed."""
    if _count(raw, b'"') > 2 * MAX_STRINGS and _unescaped(raw).count(b'"') > 2 * MAX_STRINGS:
        raise Problem("invalid_json", f"the body holds more than {MAX_STRINGS} names and texts")
    if _count(raw, b",") >= MAX_VALUES and b"".join(_unescaped(raw).split(b'"')[::2]).count(b",") >= MAX_VALUES:
        raise Problem("invalid_json", f"the body holds more than {MAX_VALUES} values")


def _count(raw: bytes, mark: bytes) -> int:
    """Count a letter; `bytes.count` looks at each byte by itself, `find` at many at once, so it passes over windows."""
    windows = range(0, len(raw), _WINDOW)
    return sum(raw.count(mark, at, at + _WINDOW) for at in windows if raw.find(mark, at, at + _WINDOW) >= 0)


def _unescaped(raw: bytes) -> bytes:
    """Leave out escaped quotes: each quote that is left begins or ends a string."""
    return raw.replace(b"\\\\", b"").replace(b'\\"', b"")


def _check_nesting(raw: bytes) -> None:
    """Refuse valid JSON with too many levels or containers, in unknown fields too; a few passes at C speed."""
    if _count(raw, b"[") + _count(raw, b"{") <= MAX_DEPTH:
        return
    marks = _unescaped(raw).translate(_SQUARE, _OTHER).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise Problem("invalid_json", f"the body holds more than {MAX_CONTAINERS} arrays and objects")
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise Problem("invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")


def _unknown(value: Struct, parts: dict[str, Raw], at: str = "") -> Iterator[UnknownField]:
    """Find the keys of an object that its struct does not know, also in the objects inside it."""
    fields = _fields(type(value))
    for key, part in parts.items():
        if key == value.__struct_config__.tag_field:
            continue
        if key not in fields:
            yield UnknownField(f"{at}{key}", key, type(value), part)
            continue
        inner = getattr(value, fields[key])
        if isinstance(inner, Struct):
            yield from _unknown(inner, _KEYS.decode(part), f"{at}{key}.")
        elif isinstance(inner, tuple) and inner and isinstance(inner[0], Struct):
            yield from _unknown_in_items(inner, part, f"{at}{key}")


@lru_cache(256)
def _fields(kind: type[Struct]) -> Mapping[str, str]:
    """Name a struct's fields by their keys in JSON."""
    return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))


def _unknown_in_items(items: tuple[Struct, ...], raw: Raw, at: str) -> Iterator[UnknownField]:
    """Find them in a list; a conversation has many objects with nothing inside, so those cost a microsecond."""
    for number, (item, parts) in enumerate(zip(items, _ITEMS.decode(raw), strict=True)):
        is_known = parts.keys() <= _fields(type(item)).keys()
        if not is_known or any(isinstance(inner, Struct | tuple) for inner in structs.astuple(item)):
            yield from _unknown(item, parts, f"{at}[{number}].")
