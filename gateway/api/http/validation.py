"""Validation errors of msgspec, reworded: the path of the fault, and the expected value."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Raw, Struct

from gateway.api.http.problems import Problem

_KEYS = msgspec.json.Decoder(dict[str, Raw])
_PLACE = re.compile(r"(.*) - at (`key` in )?`\$\.?(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_INDEX = re.compile(r"\[.*?\]")
# Entries of a table that are looked at, and characters of a key that are shown.
_SEARCHED = 1_024
_SHOWN = 40


def invalid_value(error: msgspec.ValidationError, raw: bytes, kind: type[Struct]) -> Problem:
    """Turn msgspec's `... - at `$.messages[0].role`` into a message with a param; repeat no value that was sent."""
    place = _PLACE.fullmatch(str(error))
    what, is_key, path = place.groups() if place else (str(error), None, "")
    where = path or "the body"
    if field := _MISSING.fullmatch(what):
        what, path = "this field is required", f"{path}.{field[1]}".removeprefix(".")
        where = path
    elif what.startswith("Invalid enum value"):
        values = ", ".join(f"`{value}`" for value in _values(kind, _INDEX.sub("", path).split(".")))
        what = f"expected one of {values}"
    elif is_key or path.endswith("[...]"):
        table = path.removesuffix("[...]")
        entry = _bad_entry(raw, kind, table)
        where = f"the key {entry!r} of {table}" if is_key else f"{table}[{entry}]"
        path = f"{table}[{entry}]"
    return Problem("invalid_value", f"{where}: {what[:1].lower()}{what[1:]}", param=path or None)


def _values(kind: type[Struct], names: list[str]) -> list[object]:
    """List what the field may be that `names` lead to, each a field of the struct before."""
    parts = list(_parts(get_type_hints(kind)[names[0]]))
    if len(names) > 1:
        return _values(next(part for part in parts if isinstance(part, type) and issubclass(part, Struct)), names[1:])
    return [value for part in parts if get_origin(part) is Literal for value in get_args(part)]


def _parts(hint: object) -> Iterator[object]:
    yield hint
    for part in get_args(hint):
        yield from _parts(part)


def _bad_entry(raw: bytes, kind: type[Struct], field: str) -> str:
    """Find the key of the entry at fault, for msgspec names only the table: try the entries one by one."""
    table = msgspec.json.Decoder(get_type_hints(kind, include_extras=True)[field])
    with suppress(msgspec.DecodeError, RecursionError):  # behind the fault there may be no JSON any more
        for key, value in islice(_KEYS.decode(_KEYS.decode(raw)[field]).items(), _SEARCHED):
            if not _is_valid(msgspec.json.encode({key: value}), table):
                return key[:_SHOWN]
    return "..."


def _is_valid(raw: bytes, decoder: msgspec.json.Decoder[object]) -> bool:
    try:
        decoder.decode(raw)
    except msgspec.ValidationError:
        return False
    return True
