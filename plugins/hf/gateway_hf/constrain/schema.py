"""What of JSON Schema an answer can be held to: every other keyword is refused by its path, and none is dropped."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NoReturn

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it has no types

from gateway.engine import InvalidRequest

PARAM = "json_schema"
FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"})
# Keywords that say something of the value and that llguidance cannot hold it to, of all drafts and of OpenAPI.
REFUSED = frozenset(
    {
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveAnchor",
        "$recursiveRef",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "disallow",
        "divisibleBy",
        "else",
        "extends",
        "if",
        "maxContains",
        "minContains",
        "not",
        "nullable",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
        "x-guidance",
    }
)
# The keywords that hold a schema, several of them, or one for each name.
_ONE = frozenset({"additionalItems", "additionalProperties", "items"})
_LISTS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_MAPS = frozenset({"$defs", "definitions", "patternProperties", "properties"})

# The most parts of one that a step may have: 0.5 and 0.125 are numbers as they stand, 0.01 is not.
_FINEST = 1 << 20
_WORD = re.compile(r"[$A-Za-z]+")
# What llguidance's errors say in place of a keyword, and the keywords whose value they say beside it.
_HINTS = {"Resource": "$ref", "Pointer": "$ref", "circular": "$ref", "patternProperty": "patternProperties"}
_TEXTS = frozenset({"$ref", "format", "type"})

Schema = dict[str, Any]
Path = tuple[str | int, ...]


def validator_of(schema: Schema) -> type[Validator]:
    """Return the validator of the draft that a schema names, or of the latest one."""
    found: type[Validator] = validator_for(schema, default=jsonschema.Draft202012Validator)
    return found


def check_schema(schema: Schema) -> None:
    """Raise `InvalidRequest` for what is no JSON Schema, or holds a keyword that no answer can be held to."""
    try:
        fault = best_match(_validator_of_schemas(validator_of(schema)).iter_errors(schema))
        if fault is not None:
            refuse(tuple(fault.absolute_path), fault.message)
        for path, part in parts(schema, ()):
            _check_part(path, part)
    except RecursionError:
        refuse((), "the schema is nested too deep")


@cache
def _validator_of_schemas(draft: type[Validator]) -> Validator:
    """Return what validates schemas of a draft; a metaschema of several documents is made one: ten times as fast."""
    meta = dict(draft.META_SCHEMA)
    vocabularies: list[Schema] = [_document(_beside(meta["$id"], each["$ref"])) for each in meta.pop("allOf", ())]
    if not vocabularies:
        return draft(meta)
    for keyword in ("properties", "$defs"):
        merged = [each.get(keyword, {}) for each in (*vocabularies, meta)]
        meta[keyword] = {name: _here(value) for part in merged for name, value in part.items()}
    del meta["$id"]
    return draft(meta)


def _document(address: str) -> Schema:
    found = REGISTRY.contents(address)
    return found if isinstance(found, dict) else {}


def _beside(base: str, name: str) -> str:
    return f"{base.rpartition('/')[0]}/{name}"


def _here(part: Any) -> Any:  # noqa: ANN401 - JSON
    """Have all references within a metaschema lead into the one document."""
    if isinstance(part, list):
        return [_here(each) for each in part]
    if not isinstance(part, dict):
        return part
    if "$dynamicRef" in part or "$recursiveRef" in part:
        return {"$ref": "#"}
    return {
        key: "#" + value.partition("#")[2] if key == "$ref" and isinstance(value, str) else _here(value)
        for key, value in part.items()
    }


def refuse(path: Path, why: str) -> NoReturn:
    """Raise `InvalidRequest` for a part of a schema."""
    raise InvalidRequest(f"{written(path)}: {' '.join(why.split())[:300]}", param=PARAM)


def written(path: Path) -> str:
    """Write a JSON path."""
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key[:80]}" for key in path)


def parts(schema: object, path: Path) -> Iterator[tuple[Path, Schema]]:
    """Yield a schema and all schemas in it, each with its path."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for key, value in schema.items():
        if key in _LISTS and isinstance(value, list):
            for at, each in enumerate(value):
                yield from parts(each, (*path, key, at))
        elif key in _ONE:
            yield from parts(value, (*path, key))
        elif key in _MAPS and isinstance(value, dict):
            for name, each in value.items():
                yield from parts(each, (*path, key, name))


def blame(schema: Schema, message: str) -> Path:
    """Return the path of the first keyword that an error message speaks of, or that of the whole schema."""
    words = dict.fromkeys(_WORD.findall(message))
    hinted = [keyword for hint, keyword in _HINTS.items() if hint in message]
    for keyword in (*hinted, *words):
        for path, part in parts(schema, ()):
            if keyword in part and (keyword not in _TEXTS or str(part[keyword]).removeprefix("#") in message):
                return (*path, keyword)
    return ()


def _check_part(path: Path, part: Schema) -> None:
    for keyword in sorted(part.keys() & REFUSED):
        if (keyword, part[keyword]) in (("uniqueItems", False), ("nullable", False)):
            continue
        refuse((*path, keyword), "an answer cannot be held to this keyword here")
    step = part.get("multipleOf", 1)
    if isinstance(step, float) and step.as_integer_ratio()[1] > _FINEST:
        refuse((*path, "multipleOf"), f"{step:g} is no number of a computer's, so no validator agrees on its multiples")
    if "format" in part and part["format"] not in FORMATS and _may_be_text(part):
        refuse((*path, "format"), f"{part['format']!r} is not known here; there is {', '.join(sorted(FORMATS))}")


def _may_be_text(part: Schema) -> bool:
    kinds = part.get("type", "string")
    return "string" in ([kinds] if isinstance(kinds, str) else kinds)
