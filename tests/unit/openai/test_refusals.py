"""What a server's refusals become."""

import datetime as dt
import email.utils
import json

import pytest

from gateway.engine import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    Unavailable,
    UnknownModel,
    Unsupported,
    UpstreamFailed,
)
from gateway_openai.refusals import to_error

SECRET = "http://10.0.0.7:8000 sk-secret"
SENT = {"max_completion_tokens": "max_tokens", "top_p": "top_p", "structured_outputs": "regex", "messages": "messages"}
LLAMA = {"code": 400, "type": "exceed_context_size_error", "n_ctx": 512}
VLLM = "This model's maximum context length is 512 tokens. However, you requested 600."


def refusal(**fields):
    return json.dumps({"error": {"message": SECRET, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "param"),
    [
        (400, refusal(code="context_length_exceeded", param="messages"), ContextTooLong, "prompt"),
        (400, refusal(**LLAMA), ContextTooLong, "prompt"),
        (400, refusal(message=VLLM, code=400), ContextTooLong, "prompt"),
        (400, refusal(param="top_p"), InvalidRequest, "top_p"),
        (400, refusal(param="max_completion_tokens"), InvalidRequest, "max_tokens"),
        (400, refusal(param="structured_outputs.regex"), InvalidRequest, "regex"),
        (400, refusal(param="messages[0].content"), InvalidRequest, "messages"),
        (400, refusal(param="top_p", code="unsupported_parameter"), Unsupported, "top_p"),
        (400, refusal(param=SECRET), InvalidRequest, None),
        (400, refusal(param="model"), InvalidRequest, None),
        (422, b"<html>" + SECRET.encode(), InvalidRequest, None),
        (401, refusal(), UpstreamFailed, None),
        (404, refusal(code=404), UpstreamFailed, None),
        (404, refusal(code="model_not_found"), UnknownModel, None),
        (504, refusal(code="deadline_exceeded"), DeadlineExceeded, None),
        (302, b"", UpstreamFailed, None),
        (500, b"\xff", UpstreamFailed, None),
        (500, b"[" * 100_000, UpstreamFailed, None),
    ],
)
def test_a_refusal_is_ours_and_names_nothing_of_the_server(status, body, kind, param):
    error = to_error(status, body, None, SENT)
    assert (type(error), error.param) == (kind, param)
    assert not {"10.0.0.7", "sk-secret"} & set(error.message.split())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *[("7", 7), ("0.5", 0.5), (None, 1), ("soon", 1), ("-3", 1), ("nan", 1), ("inf", 3600), ("1e9", 3600)],
        *[("9" * 5000, 3600), ("Mon, 01 Jan 1990 00:00:00 GMT", 1), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600)],
    ],
)
def test_retry_after_is_handed_on_within_reason(header, seconds):
    for status, kind in ((429, Overloaded), (503, Unavailable)):
        error = to_error(status, b"", header)
        assert isinstance(error, kind)
        assert error.retry_after == seconds


def test_retry_after_may_be_a_date():
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=600)
    error = to_error(429, b"", email.utils.format_datetime(at, usegmt=True))
    assert isinstance(error, Overloaded)
    assert 500 < error.retry_after <= 600
