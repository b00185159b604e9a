"""What a JSON Schema may hold, looked at before any work is done for it.

The walk ends at the first limit, so it never sees more of a schema than `MOST_CHARACTERS` of it.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

from gateway.api.exchange.shape import MOST_CHARACTERS
from gateway.engine import InvalidRequest

MOST_LEVELS = 16
MOST_PROPERTIES = 256
MOST_VALUES = 1_000
# A schema of so many characters that people write has half of them; more would hold up the event loop.
MOST_PARTS = 4_096
# Levels of JSON, in values as well.
_DEEPEST = 64
_LEAST, _MOST = -(2**63), 2**64 - 1
_LONGEST_KEY, _LONGEST_PATH = 40, 200

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_VALUES = frozenset({"const", "enum", "default", "examples", "example", "dependentRequired"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

# Where a part is: the place of what holds it, and its name or number there.
Place = tuple["Place", str | int] | None


class _Kind(Enum):
    SCHEMA = auto()
    MAP = auto()  # of names to schemas
    VALUE = auto()


class _Part(NamedTuple):
    """An object or an array that is still to be looked at; `levels` counts schemas, `depth` what JSON has."""

    value: dict[str, Any] | list[Any]
    kind: _Kind
    place: Place
    levels: int
    depth: int


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raise `InvalidRequest` for a schema beyond the limits; it names the path and the keyword."""
    _Walk(schema, param).run()


class _Walk:
    def __init__(self, schema: dict[str, Any], param: str) -> None:
        self._schema = schema
        self._param = param
        self._parts = 0
        self._characters = 0
        self._properties = 0
        self._values = 0
        self._has_ids = False
        self._references: list[tuple[Place, str]] = []
        self._left = [_Part(schema, _Kind.SCHEMA, None, 1, 1)]

    def run(self) -> None:
        """Look at every part, and then at where the references lead."""
        while self._left:
            part = self._left.pop()
            if part.depth > _DEEPEST:
                self._refuse(part.place, f"nested deeper than {_DEEPEST} levels")
            if isinstance(part.value, dict):
                self._see_object(part, part.value)
            else:
                self._count(part.place, 2 * len(part.value))
                for number, value in enumerate(part.value):
                    self._see(part, number, value, part.kind)
        for place, reference in () if self._has_ids else self._references:
            if not _leads_somewhere(self._schema, reference):
                self._refuse(place, f"{_short(reference)} leads nowhere")

    def _see_object(self, part: _Part, value: dict[str, Any]) -> None:
        is_schema = part.kind is _Kind.SCHEMA
        if is_schema and part.levels > MOST_LEVELS:
            self._refuse(part.place, f"more than {MOST_LEVELS} schemas inside each other")
        self._count(part.place, 4 * len(value) + sum(map(len, value)))
        for key, inner in value.items():
            kind = part.kind
            if kind is _Kind.MAP:
                kind = _Kind.SCHEMA
            elif is_schema:
                kind = self._see_keyword(part, key, inner)
            self._see(part, key, inner, kind)

    def _see_keyword(self, part: _Part, key: str, value: object) -> _Kind:
        """Count what a keyword adds, and return what kind of parts its value holds."""
        if key in _MAPS:
            if key == "properties" and isinstance(value, dict):
                self._properties += len(value)
                if self._properties > MOST_PROPERTIES:
                    self._refuse((part.place, key), f"the schema has more than {MOST_PROPERTIES} properties")
            return _Kind.MAP
        if key in _VALUES:
            if key == "enum" and isinstance(value, list):
                self._values += len(value)
                if self._values > MOST_VALUES:
                    self._refuse((part.place, key), f"the schema has more than {MOST_VALUES} values to choose from")
            return _Kind.VALUE
        if key in _REFERENCES:
            self._see_reference((part.place, key), value)
        self._has_ids = self._has_ids or (key == "$id" and part.place is not None)
        return _Kind.SCHEMA

    def _see_reference(self, place: Place, reference: object) -> None:
        if not isinstance(reference, str):
            self._refuse(place, "expected a text")
        if not reference.startswith("#"):
            self._refuse(place, f"{_short(reference)} is outside of the schema, and nothing is fetched here")
        self._references.append((place, reference))

    def _see(self, part: _Part, key: str | int, value: object, kind: _Kind) -> None:
        if isinstance(value, dict | list):
            self._parts += 1
            if self._parts >= MOST_PARTS:
                self._refuse((part.place, key), f"the schema has more than {MOST_PARTS} objects and arrays")
            levels = part.levels + (kind is _Kind.SCHEMA and isinstance(value, dict))
            self._left.append(_Part(value, kind, (part.place, key), levels, part.depth + 1))
        elif isinstance(value, str):
            self._count((part.place, key), len(value))
        elif type(value) is int and not _LEAST <= value <= _MOST:
            self._refuse((part.place, key), "the number has more than 64 bits")

    def _count(self, place: Place, characters: int) -> None:
        self._characters += characters
        if self._characters > MOST_CHARACTERS:
            self._refuse(place, f"the schema has more than {MOST_CHARACTERS} characters")

    def _refuse(self, place: Place, what: str) -> NoReturn:
        raise InvalidRequest(f"{self._param}: {_written(place)}: {what}", param=self._param)


def _written(place: Place) -> str:
    """Write a place as a JSON path; of a long one the end."""
    keys: list[str] = []
    while place is not None:
        place, key = place
        keys.append(f"[{key}]" if isinstance(key, int) else f".{_short(key)}")
    path = "".join(reversed(keys))
    return f"${path}" if len(path) <= _LONGEST_PATH else f"$…{path[-_LONGEST_PATH:]}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}…"


def _leads_somewhere(schema: dict[str, Any], reference: str) -> bool:
    """Follow a JSON Pointer; names that a schema has by `$anchor` are left to the engine."""
    at: object = schema
    for key in _keys(reference):
        if isinstance(at, dict) and key in at:
            at = at[key]
        elif isinstance(at, list) and key.isdecimal() and len(key) < len(str(MOST_CHARACTERS)) and int(key) < len(at):
            at = at[int(key)]
        else:
            return False
    return True


def _keys(reference: str) -> Iterator[str]:
    if reference.startswith("#/"):
        for key in reference[2:].split("/"):
            yield unquote(key).replace("~1", "/").replace("~0", "~")
