"""Requests in llama-server's words, and its refusals in ours."""

import msgspec
import pytest

from gateway.engine import ContextTooLong, EngineError, InvalidRequest, Overloaded, Sampling, Unavailable
from gateway_llamacpp.dialect import read_frame, to_body, to_error


def test_parameters_are_said_in_the_servers_words():
    sampling = Sampling(
        temperature=0.5, repetition_penalty=1.1, seed=2**40, logit_bias={5: -100.0}, ignore_eos=True, logprobs=0
    )
    body = to_body((1, 2), sampling, 7, 64)
    assert body["prompt"] == (1, 2)
    assert body["n_predict"] == 7
    assert body["temperature"] == 0.5
    assert body["repeat_penalty"] == 1.1
    assert body["repeat_last_n"] == 64
    assert 0 <= body["seed"] < 2**32 - 1
    assert body["logit_bias"] == [[5, -100.0]]
    assert body["ignore_eos"]
    assert body["n_probs"] == 1
    assert body["samplers"].index("temperature") < body["samplers"].index("top_p")


def test_what_was_not_asked_for_is_not_said():
    body = to_body((1,), Sampling(), 7, 64)
    assert not {"temperature", "seed", "logit_bias", "n_probs", "repeat_last_n", "ignore_eos"} & body.keys()


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "exceed_context_size_error", ContextTooLong),
        (400, "invalid_request_error", InvalidRequest),
        (503, "unavailable_error", Unavailable),
        (429, "", Overloaded),
        (500, "server_error", EngineError),
    ],
)
def test_a_refusal_is_said_in_our_words(status, kind, error):
    body = msgspec.json.encode({"error": {"code": status, "type": kind, "message": "/secret/path"}})
    made = to_error(status, body)
    assert type(made) is error
    assert "secret" not in made.message


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b'{"error": {"message": "x"}}', b'{"tokens": ["a"]}'])
def test_what_is_no_frame_is_an_error(data):
    with pytest.raises(EngineError):
        read_frame(data)


def test_a_page_in_an_answers_place_is_an_error():
    assert type(to_error(502, b"<html>")) is EngineError
