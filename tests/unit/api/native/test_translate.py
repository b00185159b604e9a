import pytest
from msgspec import structs

from gateway.api.exchange.shape import ShapedBody
from gateway.api.native.schema import ChatMessage, GenerateBody
from gateway.api.native.translate import reword, to_request, to_timeouts
from gateway.config import GenerateSettings
from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    EngineError,
    InvalidRequest,
    Message,
    ModelCard,
    Sampling,
    Text,
    Unsupported,
    answer_limit,
    needs,
)
from gateway.flow.deadline import Timeouts

CARD = ModelCard(name="echo", context_window=100, capabilities=frozenset())
NONE = GenerateSettings()


def sampling(body: GenerateBody, defaults: GenerateSettings = NONE) -> Sampling:
    return to_request(body, CARD, defaults, "id-1").sampling


def test_a_prompt_is_a_text_to_go_on_with():
    request = to_request(GenerateBody(prompt="a", model="full/echo"), CARD, NONE, "id-1")
    assert (request.id, request.model, request.prompt) == ("id-1", "full/echo", Completion("a"))
    assert (request.constraint, request.timeout, request.salt) == (None, None, "")


def test_messages_are_a_conversation():
    body = GenerateBody(messages=(ChatMessage("system", "a"), ChatMessage("user", "b")))
    messages = (Message("system", (Text("a"),)), Message("user", (Text("b"),)))
    assert to_request(body, CARD, NONE, "").prompt == Chat(messages)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": (ChatMessage("user", "b"),)}, "messages"),
        ({"prompt": "a", "max_length": 5, "max_new_tokens": 5}, "max_length"),
        ({"prompt": "a", "min_new_tokens": 6, "max_new_tokens": 5}, "min_new_tokens"),
        ({"prompt": "a", "min_new_tokens": 6, "max_length": 5}, "min_new_tokens"),
    ],
)
def test_contradictions_are_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as refused:
        to_request(GenerateBody(**fields), CARD, NONE, "")
    assert refused.value.param == param


def test_as_many_tokens_as_allowed_may_be_asked_for():
    body = GenerateBody(prompt="a", min_new_tokens=5, max_new_tokens=5)
    assert (sampling(body).min_tokens, sampling(body).max_tokens) == (5, 5)


def test_every_field_of_the_body_reaches_the_engine_under_its_name():
    same = {
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {5: 1.0},
        "seed": 7,
        "stop": ("a", "b"),
        "stop_token_ids": (5,),
        "include_stop_str_in_output": True,
        "allowed_token_ids": (6,),
        "bad_words": ("no",),
        "ignore_eos": True,
    }
    body = GenerateBody(prompt="a", max_new_tokens=9, min_new_tokens=2, **same)
    assert sampling(body) == Sampling(max_tokens=9, min_tokens=2, **same)
    meant = {*same, "max_new_tokens", "min_new_tokens", "max_length"}
    about = {"prompt", "messages", "model", "stream", "return_full_text", "priority"}
    times = {"timeout", "queue_timeout", "first_token_timeout"}
    assert set(GenerateBody.__struct_fields__) == meant | about | times | set(ShapedBody.__struct_fields__)


def test_times_are_the_gateways_business():
    body = GenerateBody(prompt="a", timeout=3.0, queue_timeout=2.0, first_token_timeout=1.0)
    assert to_timeouts(body) == Timeouts(total=3.0, queue=2.0, first_token=1.0)
    assert to_timeouts(GenerateBody(prompt="a")) == Timeouts()


def test_a_top_p_of_0_is_the_likeliest_token_and_a_top_k_of_minus_1_is_off():
    request = to_request(GenerateBody(prompt="a", top_p=0, top_k=-1, temperature=2), CARD, NONE, "1")
    assert request.sampling == Sampling(temperature=0, top_k=0)


def test_one_stop_string_is_a_list_of_one():
    assert sampling(GenerateBody(prompt="a", stop="b")).stop == ("b",)


@pytest.mark.parametrize(
    ("asked", "configured", "models_own", "expected"),
    [
        (0.0, 0.5, 0.7, 0.0),
        (0.3, None, None, 0.3),
        (None, 0.5, 0.7, 0.5),
        (None, 0.0, 0.7, 0.0),
        (None, None, 0.7, 0.7),
    ],
)
def test_the_temperature_is_the_requests_the_configured_or_the_models(asked, configured, models_own, expected):
    card = structs.replace(CARD, defaults=Sampling(temperature=models_own))
    request = to_request(
        GenerateBody(prompt="a", temperature=asked), card, GenerateSettings(temperature=configured), ""
    )
    assert request.sampling.temperature == asked
    found = asked if asked is not None else card.under(request.defaults).defaults.temperature
    assert found == expected


TALK = GenerateBody(messages=(ChatMessage("user", "a"),))
TEXT = GenerateBody(prompt="a")


@pytest.mark.parametrize(
    ("error", "body", "param", "message"),
    [
        (InvalidRequest("min_tokens is 9", param="min_tokens"), TEXT, "min_new_tokens", "min_new_tokens is 9"),
        (Unsupported("no max_tokens, top_k", param="top_k"), TEXT, "top_k", "no max_new_tokens, top_k"),
        (ContextTooLong("max_new_tokens", param="max_tokens"), TEXT, "max_new_tokens", "max_new_tokens"),
        (ContextTooLong("too long", param="prompt"), TEXT, "prompt", "too long"),
        (ContextTooLong("too long", param="prompt"), TALK, "messages", "too long"),
        (ContextTooLong("too long"), TALK, "messages", "too long"),
        (Unsupported("no chat", param="chat"), TALK, "messages", "no chat"),
        (Unsupported("no completion", param="completion"), TEXT, "prompt", "no completion"),
        (EngineError("max_tokens fell over"), TEXT, None, "max_tokens fell over"),
    ],
)
def test_an_engines_error_is_said_in_the_words_of_the_body(error, body, param, message):
    reword(error, body)
    assert (error.param, error.message) == (param, message)


def test_what_nobody_asked_for_needs_no_capability():
    configured = GenerateSettings(temperature=0.5, max_length=50)
    assert needs(to_request(GenerateBody(prompt="a"), CARD, configured, "")) == {Capability.COMPLETION}


@pytest.mark.parametrize(
    ("fields", "prompt_tokens", "expected"),
    [
        ({}, 10, 40),
        ({}, 60, 40),
        ({"max_length": 70}, 10, 60),
        ({"max_new_tokens": 70}, 10, 70),
    ],
)
def test_the_configured_length_is_a_default_and_no_cap(fields, prompt_tokens, expected):
    request = to_request(GenerateBody(prompt="a", **fields), CARD, GenerateSettings(max_length=50), "")
    assert answer_limit(request.sampling, prompt_tokens, CARD.under(request.defaults)) == expected
