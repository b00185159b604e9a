"""Schemas of every kind that the JSON Schema Test Suite has, some 300 of them, by kind."""

import itertools

_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
_FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid", "iri", "regex")
_PATTERNS = (
    "^a*$", "^[a-z]+$", "b", "^x", "y$", "^(ab|cd)+$", r"^\d{3}-\d{4}$", r"\s", r"^\S{2,4}$", r"^\w+@\w+\.com$",
    "^[^ab]{2}$", r"^\p{L}{1,3}$", "^(a+)+$", "^[ab]*a[ab]{13}$", r"^\.\*$", "^$", "a|^b|c$", "^a{1,1000}$", "(?=a)",
    r"(a)\1", r"\bword\b", "[", "^.{3}$", r"^[\x20-\x7e]{4}$",
)  # fmt: skip
_SMALL = {"maxLength": 4}


def _object(properties, **more):
    return {"type": "object", "properties": properties, **more}


def _types():
    yield from ({"type": kind} for kind in _TYPES)
    yield from ({"type": list(pair)} for pair in itertools.combinations(_TYPES, 2))
    yield from ({}, {"type": []}, {"type": "text"}, {"title": "t", "description": "d", "default": 3})


def _bounds():
    for kind, (low, high) in itertools.product(
        ("integer", "number"), ((0, 9), (-5, 5), (10, 250), (-1000, -999), (3, 3), (7, 2))
    ):
        yield {"type": kind, "minimum": low, "maximum": high}
        yield {"type": kind, "exclusiveMinimum": low, "exclusiveMaximum": high}
        yield {"type": kind, "minimum": low, "exclusiveMaximum": high}
    yield from ({"type": "integer", "minimum": low} for low in (0, 1, -1, 1.5, 10**9, 2**70))
    yield from ({"type": "number", "maximum": high} for high in (0, 0.5, -2.25, 1e9))
    yield from ({"type": kind, "multipleOf": step} for kind in ("integer", "number") for step in (2, 5, 0.5, 0.01, 0))
    yield {"type": "integer", "multipleOf": 3, "minimum": 10, "maximum": 100}


def _sizes():
    for low, high in ((0, 0), (0, 3), (2, 2), (1, 5), (3, 1)):
        yield {"type": "string", "minLength": low, "maxLength": high}
        yield {"type": "array", "minItems": low, "maxItems": high, "items": {"type": "boolean"}}
        yield {"type": "object", "minProperties": low, "maxProperties": high, "additionalProperties": {"type": "null"}}
        yield _object({"a": {}, "b": {"type": "null"}}, required=["a"], minProperties=low, maxProperties=high)
    yield from ({"type": "string", "minLength": "3"}, {"type": "string", "minLength": -1}, {"minLength": 2})


def _patterns():
    for pattern in _PATTERNS:
        yield {"type": "string", "pattern": pattern}
        yield _object({"a": {"type": "string", "pattern": pattern, "maxLength": 12}}, required=["a"])
    yield from ({"patternProperties": {name: {"type": "null"}}, "type": "object"} for name in ("^x", "y", "^z$"))
    yield _object({"xa": {"const": 1}}, patternProperties={"^x": {"type": "integer"}}, additionalProperties=False)
    yield {"patternProperties": {"a": {}, "b": {}}}


def _formats():
    yield from ({"type": "string", "format": name} for name in _FORMATS)
    yield from ({"format": name} for name in _FORMATS)
    yield from ({"type": "integer", "format": name} for name in ("int32", "date"))
    yield {"type": "string", "format": "date", "pattern": "^20"}


def _values():
    yield from ({"const": value} for value in (1, "a", None, True, 1.5, [1, "b"], {"a": {"b": []}}, 'é\n"\\'))
    yield from ({"enum": values} for values in ([1, 2], ["a", "ab"], [None, False, 0], [[], {}], [], [{"a": 1}, "x"]))
    yield from ({"type": kind, "enum": [1, "a", None, 2.5]} for kind in _TYPES)
    yield {"const": 1, "type": "string"}


def _combinators():
    parts = (
        {"type": "string", **_SMALL},
        {"type": "integer"},
        {"type": "null"},
        {"minimum": 3},
        _object({"a": {"type": "null"}}),
    )
    for one, other in itertools.combinations(parts, 2):
        yield from ({key: [one, other]} for key in ("anyOf", "oneOf", "allOf"))
    yield from ({key: []} for key in ("anyOf", "oneOf", "allOf"))
    yield {"oneOf": [_object({"kind": {"const": name}}, required=["kind"]) for name in ("a", "b")]}
    yield {"anyOf": [{"type": "string"}, {"type": "null"}], **_SMALL}
    yield {"allOf": [{"type": "string", "minLength": 2}, _SMALL, {"pattern": "^a"}]}


def _references():
    text = {"type": "string", **_SMALL}
    yield {"$ref": "#/$defs/a", "$defs": {"a": text}}
    yield {"$ref": "#/definitions/a", "definitions": {"a": text}}
    yield {"$ref": "#/$defs/a", "minLength": 2, "$defs": {"a": text}}
    yield {"$ref": "#/$defs/a~1b", "$defs": {"a/b": text}}
    yield {"$ref": "#a", "$defs": {"b": {"$anchor": "a", **text}}}
    yield _object({"a": text, "b": {"$ref": "#/properties/a"}}, required=["b"])
    yield _object({"next": {"$ref": "#"}}, additionalProperties=False)
    yield {"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"type": "null"}, _object({"n": {"$ref": "#/$defs/n"}})]}}}
    yield from ({"$ref": where} for where in ("#", "#/$defs/none", "other.json", "https://example.com/s.json"))
    yield from ({"$dynamicRef": "#"}, {"$recursiveRef": "#"})


def _arrays():
    yield {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}]}
    yield {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False}
    yield {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "boolean"}, "minItems": 2}
    yield {"type": "array", "items": {"type": "array", "items": {"enum": [1]}, "maxItems": 2}, "maxItems": 2}
    yield {"type": "array", "items": [{"type": "null"}], "$schema": "http://json-schema.org/draft-07/schema#"}
    yield from ({"type": "array", "items": items} for items in (True, False, {}))
    yield from ({"type": "array", "uniqueItems": unique} for unique in (True, False))
    yield from ({"contains": {"type": "null"}}, {"unevaluatedItems": False}, {"items": [{}]})


def _objects():
    named = {"a": {"type": "null"}, "b": {"type": "boolean"}}
    for required in ([], ["a"], ["b", "a"], ["c"]):
        yield from (
            _object(named, required=required, additionalProperties=more) for more in (True, False, {"type": "integer"})
        )
    yield _object({"a": False})
    yield _object({"a": False}, required=["a"])
    yield _object({'q"\\\n': {"type": "null"}, "é": {"const": 1}}, required=["é"])
    yield from ({"propertyNames": _SMALL}, {"dependentRequired": {"a": ["b"]}}, {"dependentSchemas": {"a": {}}})
    yield from (
        {"unevaluatedProperties": False},
        {"dependencies": {}},
        {"not": {"type": "null"}},
        {"if": {}, "then": {}},
    )
    yield from ({"nullable": True}, {"properties": {"a": 1}}, {"required": "a"}, {"additionalProperties": 3})


SCHEMAS = {
    "types": [*_types()],
    "bounds": [*_bounds()],
    "sizes": [*_sizes()],
    "patterns": [*_patterns()],
    "formats": [*_formats()],
    "values": [*_values()],
    "combinators": [*_combinators()],
    "references": [*_references()],
    "arrays": [*_arrays()],
    "objects": [*_objects()],
}
