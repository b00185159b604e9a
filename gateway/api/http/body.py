"""Request bodies: JSON, decoded strictly, every fault named by its path."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import TypeVar, cast
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from gateway.api.http.connection import HttpConnection
from gateway.api.http.directions import wrong_content_type
from gateway.api.http.large_bodies import PASSES, count, turns, weigh
from gateway.api.http.problems import Problem
from gateway.api.http.unknown_fields import UnknownField, bounded, refuse_wrong
from gateway.api.http.validation import invalid_value
from gateway.config import ServerSettings
from gateway.flow.offload import LARGE, offload_large

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

_KEYS = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(list[dict[str, Raw]])
_OTHER = bytes(set(range(256)) - set(b'[]{}"'))
_SQUARE = bytes.maketrans(b"{}", b"[]")


class RequestBody(Struct, frozen=True, eq=False):
    """The bytes of a body that says it is JSON, and their weight."""

    raw: bytes
    weight: int = 0

    def decode(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Return the struct; raise `Problem`. What it does not know is checked by `unknown`, which may be later."""
        try:
            if not self.raw.isascii():
                self.raw.decode()
            _check_size(self.raw)
            return decoder.decode(self.raw)
        except msgspec.ValidationError as error:
            kind = cast("type[Struct]", decoder.type)
            self._look_for_another_name(error, kind)
            raise invalid_value(error, self.raw, kind) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._invalid(error) from error

    def unknown(self, value: object) -> list[str]:
        """Return the paths of the keys that the struct does not know; raise `Problem` for nonsense among them."""
        try:
            found = list(bounded(_unknown(cast("Struct", value), _KEYS.decode(self.raw))))
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._invalid(error) from error
        _check_nesting(self.raw)
        if found:
            refuse_wrong(found)
        return [field.path for field in found]

    def _look_for_another_name(self, error: msgspec.ValidationError, kind: type[Struct]) -> None:
        """Raise `Problem` where a field is missing because it was called otherwise."""
        with suppress(msgspec.DecodeError, RecursionError):  # behind the fault there may be no JSON any more
            if "missing required field" in str(error):
                fields = _fields(kind)
                parts = _KEYS.decode(self.raw)
                unknown = (UnknownField(key, key, kind, part) for key, part in parts.items() if key not in fields)
                refuse_wrong(bounded(unknown))

    def _invalid(self, error: Exception) -> Problem:
        if not self.raw.strip():
            return Problem("invalid_json", "the body is empty")
        reason = str(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        elif isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8"
        return Problem("invalid_json", f"the body is not valid JSON: {reason}")


async def read_body(request: HttpConnection) -> RequestBody:
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
    weight = weigh(raw)
    if weight > LARGE:
        await turns.wait(PASSES * weight)
    return RequestBody(raw, weight)


async def decode_body(request: HttpConnection, decoder: msgspec.json.Decoder[T]) -> tuple[T, list[str], int]:
    """Read a body; return its struct, the paths of the keys that it does not know, and its weight.

    The bytes themselves are not kept. Raises `Problem`.
    """
    body = await read_body(request)
    value, unknown = await offload_large(body.weight, partial(_decode, body, decoder))
    return value, unknown, body.weight


def _decode(body: RequestBody, decoder: msgspec.json.Decoder[T]) -> tuple[T, list[str]]:
    value = body.decode(decoder)
    return value, body.unknown(value)


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
    if count(raw, b'"') > 2 * MAX_STRINGS and _unescaped(raw).count(b'"') > 2 * MAX_STRINGS:
        raise Problem("invalid_json", f"the body holds more than {MAX_STRINGS} names and texts")
    if count(raw, b",") >= MAX_VALUES and b"".join(_unescaped(raw).split(b'"')[::2]).count(b",") >= MAX_VALUES:
        raise Problem("invalid_json", f"the body holds more than {MAX_VALUES} values")


def _unescaped(raw: bytes) -> bytes:
    """Leave out escaped quotes: each quote that is left begins or ends a string."""
    return raw.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in raw else raw


def _check_nesting(raw: bytes) -> None:
    """Refuse valid JSON with too many levels or containers, in unknown fields too; a few passes at C speed."""
    if count(raw, b"[") + count(raw, b"{") <= MAX_DEPTH:
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
        if not _is_plain(item, parts):
            yield from _unknown(item, parts, f"{at}[{number}].")


def _is_plain(item: Struct, parts: dict[str, Raw]) -> bool:
    """Tell whether all keys of an object are known, and nothing inside it has keys of its own."""
    fields, tag = _fields(type(item)), item.__struct_config__.tag_field
    for key in parts:
        if key in fields:
            if isinstance(getattr(item, fields[key]), (Struct, tuple)):
                return False
        elif key != tag:
            return False
    return True
