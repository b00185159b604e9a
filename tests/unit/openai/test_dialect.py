"""What is asked in OpenAI's words, and what its refusals become."""

import json

import pytest

from gateway.engine import (
    Chat,
    Completion,
    ContextTooLong,
    GenerateRequest,
    InvalidRequest,
    Message,
    Overloaded,
    Sampling,
    Text,
    Tokens,
    Unavailable,
    Unsupported,
    UpstreamFailed,
)
from gateway_openai.dialect import CAPABILITIES, read_frame, to_body, to_error

SAID = (Message("system", (Text("Be "), Text("brief."))), Message("user", (Text("Hi"),)))


def request(prompt, **sampling):
    return GenerateRequest(id="1", model="ours", prompt=prompt, sampling=Sampling(**sampling))


def test_a_chat_is_asked_in_messages_streamed_with_its_usage():
    path, body = to_body(request(Chat(SAID), max_tokens=5, temperature=0.0, stop=("a", "b")), "theirs/m")
    assert path == "/chat/completions"
    assert body == {
        "model": "theirs/m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0.0,
        "stop": ("a", "b"),
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }


def test_a_completion_is_asked_in_a_prompt_and_a_default_counts_where_nothing_is_said():
    asked = GenerateRequest(
        id="1", model="ours", prompt=Completion("x"), sampling=Sampling(seed=0), defaults=Sampling(seed=9, top_p=0.5)
    )
    path, body = to_body(asked, "m")
    assert (path, body["prompt"], body["seed"], body["top_p"]) == ("/completions", "x", 0, 0.5)


def test_every_parameter_of_the_card_is_sent():
    values = {"max_tokens": 1, "temperature": 0.1, "top_p": 0.2, "seed": 3, "stop": ("s",)}
    values |= {"presence_penalty": 0.4, "frequency_penalty": 0.5}
    assert {"chat", "completion", *values} == set(CAPABILITIES)
    _, body = to_body(request(Completion("x"), **values), "m")
    assert {name: body[name] for name in values} == values


def test_what_cannot_be_said_is_refused_by_name():
    for field, chat in (
        ("reasoning", Chat(SAID, reasoning=False)),
        ("reasoning_effort", Chat(SAID, reasoning_effort="minimal")),
    ):
        with pytest.raises(Unsupported) as caught:
            to_body(request(chat), "m")
        assert caught.value.param == field
    with pytest.raises(InvalidRequest):
        to_body(request(Tokens((1,))), "m")


SECRET = "http://10.0.0.7:8000 sk-secret"


def refusal(**fields):
    return json.dumps({"error": {"message": SECRET, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "param"),
    [
        (400, refusal(code="context_length_exceeded", param="messages"), ContextTooLong, "prompt"),
        (400, refusal(param="top_p"), InvalidRequest, "top_p"),
        (400, refusal(param=SECRET), InvalidRequest, None),
        (422, b"<html>" + SECRET.encode(), InvalidRequest, None),
        (401, refusal(), UpstreamFailed, None),
        (404, refusal(code=404), UpstreamFailed, None),
        (302, b"", UpstreamFailed, None),
        (500, b"\xff", UpstreamFailed, None),
        (500, b"[" * 100_000, UpstreamFailed, None),
    ],
)
def test_a_refusal_is_ours_and_names_nothing_of_the_server(status, body, kind, param):
    error = to_error(status, body, None)
    assert (type(error), error.param) == (kind, param)
    assert not {"10.0.0.7", "sk-secret"} & set(error.message.split())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0.5", 0.5), (None, 1), ("soon", 1), ("-3", 1), ("nan", 1), ("inf", 3600), ("1e9", 3600)],
)
def test_retry_after_is_handed_on_within_reason(header, seconds):
    for status, kind in ((429, Overloaded), (503, Unavailable)):
        error = to_error(status, b"", header)
        assert isinstance(error, kind)
        assert error.retry_after == seconds


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"{",
        b'{"choices": [{"delta": {"content": 3}}]}',
        b'{"choices": [{"text": "\xff"}]}',
        b'{"usage": {"prompt_tokens": -1}}',
        b'{"usage": {"prompt_tokens": 1e30}}',
        b"[" * 100_000,
    ],
)
def test_a_frame_that_is_none_is_a_typed_error(data):
    with pytest.raises(UpstreamFailed):
        read_frame(data)


def test_a_frame_with_more_than_is_known_is_read():
    frame = read_frame(b'{"id": "x", "error": null, "choices": [{"index": 0, "delta": {"content": "hi", "x": 1}}]}')
    delta = frame.choices[0].delta
    assert delta is not None
    assert delta.content == "hi"


@pytest.mark.parametrize("error", ['{"message": "no"}', '"no"', "[]", "0"])
def test_an_error_in_the_stream_is_told_from_nonsense(error):
    with pytest.raises(UpstreamFailed, match="failed while it answered"):
        read_frame(f'{{"error": {error}, "choices": []}}'.encode())
