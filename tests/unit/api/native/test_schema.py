import msgspec
import pytest
from polyfactory.factories.msgspec_factory import MsgspecFactory

from gateway.api.native.schema import (
    ChatMessage,
    GenerateBody,
    GenerateReply,
    LastFrame,
    TextFrame,
)

SCHEMAS, COMPONENTS = msgspec.json.schema_components([GenerateBody, GenerateReply, LastFrame, TextFrame])
LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "maxItems", "enum"}

SWITCHES = {"stream", "return_full_text", "ignore_eos", "include_stop_str_in_output", "guided_json_object"}


def limits(schema: object) -> set[str]:
    """Find every limit that a schema names, however deep."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return limits(COMPONENTS[schema["$ref"].rpartition("/")[2]])
        return (LIMITS & schema.keys()).union(*map(limits, schema.values()))
    return set().union(*map(limits, schema)) if isinstance(schema, list) else set()


@pytest.mark.parametrize("kind", [ChatMessage, GenerateReply, LastFrame, TextFrame])
def test_what_is_written_can_be_read_again(kind):
    for value in MsgspecFactory.create_factory(kind).batch(20):
        assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


def test_an_empty_body_is_all_defaults():
    assert msgspec.json.decode(b"{}", type=GenerateBody) == GenerateBody()


@pytest.mark.parametrize("name", GenerateBody.__struct_fields__)
def test_every_field_says_what_it_is_for(name):
    assert COMPONENTS["GenerateBody"]["properties"][name]["description"].endswith((".", "prompt."))


@pytest.mark.parametrize("name", sorted(set(GenerateBody.__struct_fields__) - SWITCHES))
def test_every_number_text_and_list_of_a_request_has_a_limit(name):
    # A prompt is bounded by the body and by the model's context.
    assert limits(COMPONENTS["GenerateBody"]["properties"][name])


def test_a_message_has_a_role_and_a_content():
    assert COMPONENTS["ChatMessage"]["required"] == ["role", "content"]
