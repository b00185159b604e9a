"""What a form needs to know of each parameter: its kind, its bounds, and what it does.

All of it comes from the bodies of the dialects, so the page has no list of its own that could differ from them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.api.exchange.dialect import Dialect

FieldKind = Literal["number", "integer", "boolean", "choice", "text", "texts", "integers", "json"]
_Schema = Mapping[str, Any]
_LISTS: Mapping[str, FieldKind] = {"string": "texts", "integer": "integers"}
_SIMPLE: Mapping[str, FieldKind] = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "text"}
# Of several kinds that a parameter may have, the first of these: JSON holds any, and a list a single text, too.
_ORDER: Sequence[FieldKind] = ("json", "texts", "integers", "choice", "boolean", "integer", "number", "text")


class FormField(Struct, frozen=True, omit_defaults=True):
    """One parameter as a form shows it; `about` is its description, `values` are those of a choice."""

    kind: FieldKind
    about: str
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()


def to_fields(dialects: Iterable[Dialect]) -> dict[str, dict[str, FormField]]:
    """Describe what the body of each route that generates may hold, by the route's path."""
    endpoints = [endpoint for dialect in dialects for endpoint in dialect.endpoints]
    return {endpoint.path: _fields(endpoint.decoder.type) for endpoint in endpoints}


def _fields(body: Any) -> dict[str, FormField]:  # noqa: ANN401 - whatever type a decoder has
    (reference,), schemas = msgspec.json.schema_components([body])
    properties = schemas[reference["$ref"].rpartition("/")[2]]["properties"]
    return {name: _field(schema) for name, schema in properties.items()}


def _field(schema: _Schema) -> FormField:
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    chosen = min(options, key=lambda option: _ORDER.index(_kind(option)))
    return FormField(
        kind=_kind(chosen),
        about=schema.get("description", ""),
        minimum=chosen.get("minimum"),
        maximum=chosen.get("maximum"),
        values=tuple(str(value) for value in chosen.get("enum", ()) if value is not None),
    )


def _kind(schema: _Schema) -> FieldKind:
    if "enum" in schema:
        return "choice"
    if schema.get("type") == "array":
        return _LISTS.get(schema.get("items", {}).get("type", ""), "json")
    return _SIMPLE.get(schema.get("type", ""), "json")
