"""Which schemas an answer can be held to, and what is said of the others."""

import pytest
from jsonschema.exceptions import best_match

from gateway.engine import InvalidRequest
from gateway_hf.constrain import schema as schema_module
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


_DRAFTS = ("2020-12/schema", "2019-09/schema", "draft-07/schema#", "draft-04/schema#")
_BROKEN = (
    {"type": "nonsense"},
    {"minLength": -1},
    {"properties": {"a": {"required": "b"}}},
    {"$defs": {"a": {"enum": 1}}},
    {"anyOf": []},
    {"$ref": 5},
    {"pattern": 5},
    {"additionalProperties": 3},
    {"properties": {"a": {"items": {"allOf": [{"maximum": "1"}]}}}},
    {"dependencies": {"a": [1]}},
)


@pytest.mark.parametrize("draft", _DRAFTS)
def test_a_metaschema_that_is_made_one_document_finds_the_faults_of_its_own(draft):
    at = "http://json-schema.org/" if draft.startswith("draft") else "https://json-schema.org/draft/"
    for part in ({"properties": {"a": {"type": "string"}}}, *_BROKEN):
        schema = {"$schema": at + draft, **part}
        own = schema_module.validator_of(schema)
        wanted = best_match(own(own.META_SCHEMA).iter_errors(schema))
        found = best_match(schema_module._validator_of_schemas(own).iter_errors(schema))
        assert (found and (found.message, found.absolute_path)) == (wanted and (wanted.message, wanted.absolute_path))
