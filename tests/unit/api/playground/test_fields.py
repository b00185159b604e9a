import pytest

from gateway.api.openai.dialect import DIALECT
from gateway.api.playground.fields import FormField, to_fields
from gateway.api.routes import DIALECTS

FIELDS = to_fields([DIALECT])
CHAT = FIELDS["/v1/chat/completions"]


def test_every_route_that_generates_has_its_fields():
    paths = {endpoint.path for dialect in DIALECTS for endpoint in dialect.endpoints}
    assert to_fields(DIALECTS).keys() == paths >= {"/v1/chat/completions", "/v1/completions", "/v1/messages"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("temperature", "number"),
        ("top_k", "integer"),
        ("ignore_eos", "boolean"),
        ("truncation_side", "choice"),
        ("cache_salt", "text"),
        ("stop", "texts"),
        ("bad_words", "texts"),
        ("stop_token_ids", "integers"),
        ("logit_bias", "json"),
        ("messages", "json"),
        ("response_format", "json"),
        ("audio", "json"),
    ],
)
def test_a_field_is_of_the_kind_that_its_values_have(name, kind):
    assert CHAT[name].kind == kind


def test_a_field_has_the_bounds_and_the_words_of_its_body():
    field = CHAT["temperature"]
    assert (field.minimum, field.maximum) == (0, 2)
    assert field.about.startswith("0 always takes the likeliest token")
    assert CHAT["truncation_side"].values == ("left", "right")


def test_every_parameter_of_the_body_has_a_field():
    (body,) = [endpoint.decoder.type for endpoint in DIALECT.endpoints if endpoint.path == "/v1/chat/completions"]
    assert set(body.__struct_fields__) == set(CHAT)
    assert all(isinstance(field, FormField) and field.about for field in CHAT.values())
