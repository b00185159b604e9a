"""Which schemas an answer can be held to, and what is said of the others."""

import pytest

from gateway.engine import InvalidRequest
from gateway_hf.constrain.schema import REFUSED, blame, check_schema


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_a_keyword_that_cannot_be_kept_is_named(keyword):
    values = {"if": {}, "then": {}, "else": {}, "not": {}, "contains": {}, "propertyNames": {}, "uniqueItems": True}
    values |= {"minContains": 1, "maxContains": 1, "unevaluatedItems": {}, "unevaluatedProperties": {}}
    values |= {"$dynamicRef": "#", "$dynamicAnchor": "a", "nullable": True}
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {keyword: values.get(keyword, {})}]}}}
    with pytest.raises(InvalidRequest, match=rf"^\$\.properties\.a\.anyOf\[1\]\.{keyword.replace('$', '[$]')}: "):
        check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "strin"}, r"\$\.type: 'strin'"),
        ({"items": {"minLength": "3"}}, r"\$\.items\.minLength: '3' is not"),
        ({"items": {"multipleOf": 0.01}}, r"\$\.items\.multipleOf: 0\.01"),
        ({"exclusiveMinimum": True}, r"\$\.exclusiveMinimum: True is not"),
        ({"properties": {"a": 1}}, r"\$\.properties\.a: 1 is not"),
        ({"properties": {"a": {"format": "iri"}}}, r"\$\.properties\.a\.format: 'iri' is not known"),
        ({"$defs": {"a": {"prefixItems": [{}, {"not": {}}]}}}, r"\$\.\$defs\.a\.prefixItems\[1\]\.not"),
        ({"patternProperties": {"^x": {"not": {}}}}, r"\$\.patternProperties\.\^x\.not"),
        ({"additionalProperties": {"not": {}}}, r"\$\.additionalProperties\.not"),
    ],
)
def test_a_fault_is_named_with_its_path(schema, told):
    with pytest.raises(InvalidRequest, match=told) as refused:
        check_schema(schema)
    assert refused.value.param == "json_schema"


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"title": "t", "description": "d", "default": 1, "examples": [1], "$comment": "c", "deprecated": True},
        {"properties": {"not": {"type": "string"}, "if": {}}},
        {"enum": [{"not": 1}], "const": {"uniqueItems": True}},
        {"type": "array", "uniqueItems": False},
        {"type": "integer", "format": "int32"},
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
        {"x-own": {"not": {}}},
    ],
)
def test_annotations_and_names_are_no_keywords(schema):
    check_schema(schema)


def test_a_schema_that_is_too_deep_is_refused():
    deep = {}
    for _ in range(5_000):
        deep = {"items": deep}
    with pytest.raises(InvalidRequest, match="too deep"):
        check_schema(deep)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ("Unimplemented keys: ['minItems']", ("items", "minItems")),
        ("Pointer '/$defs/b' does not exist", ("properties", "b", "$ref")),
        ("Resource '/$defs/b' is not present", ("properties", "b", "$ref")),
        ("minimum (5) is greater", ("properties", "a", "minimum")),
        ("something else", ()),
    ],
)
def test_a_message_of_the_library_gets_a_path(message, path):
    schema = {
        "properties": {"a": {"minimum": 5}, "c": {"$ref": "#/$defs/a"}, "b": {"$ref": "#/$defs/b"}},
        "items": {"minItems": 3},
    }
    assert blame(schema, message) == path
