"""Responses of the built-in model: a shape, a call, and what comes of the call."""

import json

import openai
import pytest
from pydantic import BaseModel

WEATHER = {
    "type": "function", "name": "get_weather", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip
ASKED = {"model": "default", "temperature": 0, "max_output_tokens": 64}


class City(BaseModel):
    city: str
    country: str


@pytest.fixture(scope="module")
def responses(builtin):
    with openai.OpenAI(base_url=builtin.url + "/v1", api_key="none", max_retries=0) as client:
        yield client.responses


def test_an_answer_keeps_to_its_schema(responses):
    answer = responses.parse(input="Name a city.", text_format=City, **ASKED)
    assert answer.status == "completed"
    assert isinstance(answer.output_parsed, City)
    assert answer.x_structured == "valid"


def test_a_call_is_made_and_its_result_gone_on_with(responses):
    asked = ASKED | {"tools": [WEATHER]}
    first = responses.create(input="What is the weather in Paris?", tool_choice="required", **asked)
    (call,) = first.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert json.loads(call.arguments).keys() == {"city"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    second = responses.create(input=[result], previous_response_id=first.id, **asked | {"tool_choice": "none"})
    assert second.output_text
    with pytest.raises(openai.BadRequestError) as refused:
        responses.create(input=[result | {"call_id": "other"}], previous_response_id=first.id, **asked)
    assert refused.value.param == "input"


def test_a_streamed_call_is_the_whole_one_in_pieces(responses):
    asked = ASKED | {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}}
    with responses.stream(input="What is the weather in Paris?", **asked) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert "".join(pieces) == call.arguments
    assert call.parsed_arguments.keys() == {"city"}
