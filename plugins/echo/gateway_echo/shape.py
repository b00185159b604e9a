"""Answers that keep to a constraint, the smallest there are; a schema that is beyond this little is refused by name."""

import json
import math
from typing import Any, NoReturn

from gateway.engine import Choice, Constraint, InvalidRequest, JsonObject, JsonSchema, Unsupported

_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "discriminator"}
)
_KEYWORDS = {
    "null": frozenset[str](),
    "boolean": frozenset[str](),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "string": frozenset({"minLength", "maxLength"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
_PYTHON: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_MOST_SCHEMAS = 1_000
_DEEPEST = 48
_MOST_CHARACTERS = 4_096
_Path = tuple[str | int, ...]


def shaped(constraint: Constraint, said: str) -> str:
    """Return the answer: of a choice the first option that is in `said`, else the first one.

    Raises `InvalidRequest` for a schema of which no instance is known, and `Unsupported` for another constraint.
    """
    match constraint:
        case Choice(options) if options:
            return next((option for option in options if option in said), options[0])
        case Choice():
            raise InvalidRequest("there is nothing to choose from", param="choice")
        case JsonObject():
            return "{}"
        case JsonSchema(schema):
            return json.dumps(_Instance(schema).of(schema, ()), ensure_ascii=False)
        case _:
            kind = type(constraint).__struct_config__.tag
            raise Unsupported("an echo keeps to no pattern and no grammar", param=str(kind))


class _Instance:
    """Makes the smallest instance of one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._schemas = 0

    def of(self, schema: object, path: _Path) -> object:
        """Return the smallest instance of a part of the schema; raise `InvalidRequest` where none is known."""
        self._schemas += 1
        if self._schemas > _MOST_SCHEMAS:
            _refuse(path, f"an instance takes more than {_MOST_SCHEMAS} schemas")
        if len(path) > _DEEPEST:
            _refuse(path, "an instance has no end, or one too deep for an echo")
        if schema is True:
            return None
        if not isinstance(schema, dict):
            _refuse(path, "there is no such instance" if schema is False else "expected a schema")
        found = sorted(schema.keys() & {"$ref", "const", "enum", "anyOf", "allOf"})
        if found:
            return self._special(schema, found, path)
        kind = _kind(schema, path)
        _check_rest(schema, _KEYWORDS[kind] | {"type"}, path)
        return self._of_kind(kind, schema, path)

    def _of_kind(self, kind: str, schema: dict[str, Any], path: _Path) -> object:
        match kind:
            case "array":
                return self._array(schema, path)
            case "object":
                return self._object(schema, path)
            case "string":
                return "x" * _count(schema, "minLength", "maxLength", path)
            case "integer" | "number":
                return _number(schema, kind, path)
        return False if kind == "boolean" else None

    def _special(self, schema: dict[str, Any], found: list[str], path: _Path) -> object:
        keyword = found[0]
        value = schema[keyword]
        at = (*path, keyword)
        _check_rest(schema, {keyword}, path)
        if keyword == "const":
            return _first([value], schema, at)
        if keyword == "$ref":
            return self.of(self._follow(value, at), at)
        if not isinstance(value, list) or not value:
            _refuse(at, "expected a list that is not empty")
        if keyword == "allOf" and len(value) > 1:
            _refuse(at, "an echo keeps to one schema at a time")
        return _first(value, schema, at) if keyword == "enum" else self.of(value[0], (*at, 0))

    def _follow(self, reference: object, path: _Path) -> object:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            _refuse(path, "an echo follows JSON Pointers only")
        at: Any = self._root
        for key in reference[2:].split("/") if len(reference) > 1 else ():
            name = key.replace("~1", "/").replace("~0", "~")
            if not isinstance(at, dict) or name not in at:
                _refuse(path, f"{reference[:40]} leads nowhere")
            at = at[name]
        return at

    def _array(self, schema: dict[str, Any], path: _Path) -> list[object]:
        count = _count(schema, "minItems", "maxItems", path)
        return [self.of(schema.get("items", True), (*path, "items")) for _ in range(count)]

    def _object(self, schema: dict[str, Any], path: _Path) -> dict[str, object]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict):
            _refuse((*path, "properties"), "expected an object")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            _refuse((*path, "required"), "expected a list of texts")
        # In the order of the schema, as the engines with a model write them.
        names = [name for name in properties if name in required] + [n for n in required if n not in properties]
        others = schema.get("additionalProperties", True)
        return {
            name: self.of(properties[name], (*path, "properties", name))
            if name in properties
            else self.of(others, (*path, "additionalProperties"))
            for name in names
        }


def _first(values: list[object], schema: dict[str, Any], path: _Path) -> object:
    """Return the first of the values that has the type which the schema names."""
    kinds = schema.get("type", list(_KEYWORDS))
    allowed = tuple(_PYTHON.get(kind, ()) for kind in (kinds if isinstance(kinds, list) else [kinds]))
    found = [value for value in values if type(value) in {kind for each in allowed for kind in each}]
    if not found:
        _refuse(path, "none of its values has the type")
    return found[0]


def _kind(schema: dict[str, Any], path: _Path) -> str:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = kind[0]
    if kind is None:
        kind = "object" if schema.keys() & _KEYWORDS["object"] else "array" if "items" in schema else "null"
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        _refuse((*path, "type"), "there is no such type")
    return kind


def _check_rest(schema: dict[str, Any], known: frozenset[str] | set[str], path: _Path) -> None:
    """Refuse a keyword that an instance might break."""
    others = sorted(schema.keys() - known - _ANNOTATIONS - ({"type"} if "const" in known or "enum" in known else set()))
    if others:
        _refuse((*path, others[0]), "an echo does not keep to it here")


def _count(schema: dict[str, Any], least: str, most: str, path: _Path) -> int:
    low, high = schema.get(least, 0), schema.get(most, _MOST_CHARACTERS)
    for name, value in ((least, low), (most, high)):
        if type(value) is not int or value < 0:
            _refuse((*path, name), "expected a whole number")
    if low > min(high, _MOST_CHARACTERS):
        _refuse((*path, least), f"it is more than {most}, or than {_MOST_CHARACTERS}")
    return int(low)


def _number(schema: dict[str, Any], kind: str, path: _Path) -> float | int:
    """Find a number within the bounds: 0, or the one nearest to it that is easily said."""
    bounds = {name: value for name, value in schema.items() if name in _KEYWORDS["number"]}
    for name, value in bounds.items():
        if type(value) not in (int, float):
            _refuse((*path, name), "expected a number")
    low = max(bounds.get("minimum", -math.inf), bounds.get("exclusiveMinimum", -math.inf))
    high = min(bounds.get("maximum", math.inf), bounds.get("exclusiveMaximum", math.inf))
    near = low if low > 0 else min(0, high)
    tries: list[float | int] = [0, near, math.floor(near), math.ceil(near), math.ceil(near) + 1, math.floor(near) - 1]
    if kind == "number":
        tries.append((low + high) / 2)
    within = [number for number in tries if low <= number <= high and number not in _excluded(bounds)]
    found = [number for number in within if kind == "number" or number == int(number)]
    if not found:
        _refuse((*path, next(iter(bounds))), "no number is found within the bounds")
    return int(found[0]) if found[0] == int(found[0]) else found[0]


def _excluded(bounds: dict[str, float]) -> set[float]:
    return {value for name, value in bounds.items() if name.startswith("exclusive")}


def _refuse(path: _Path, what: str) -> NoReturn:
    written = "".join(f"[{key}]" if isinstance(key, int) else f".{key[:40]}" for key in path)
    raise InvalidRequest(f"${written[-200:]}: {what}", param="json_schema")
