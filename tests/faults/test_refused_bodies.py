"""Requests that are refused before their body was read: the client gets the reason, and no connection error."""

import gzip
import hashlib
import json
from collections import Counter

import openai
import pytest

from tests.support.observe import is_problem
from tests.support.rawhttp import CHUNKED, JSON, RawHTTP, exchange, request
from tests.support.service import Service

KEY = "llmg_refused"
MESSAGES = [{"role": "user", "content": "word " * 20_000}]
REFUSED = {
    "wrong key": (401, {"api_key": "wrong"}),
    "no such path": (404, {"base_url": "/v1/v1"}),
    "not json": (415, {"default_headers": {"content-type": "text/plain"}}),
    "foreign host": (400, {"default_headers": {"host": "evil.example"}}),
    "foreign page": (403, {"default_headers": {"origin": "https://evil.example"}}),
}


@pytest.fixture(scope="module")
def keyed():
    with Service(LLM_GATEWAY__AUTH__KEYS__A__SHA256=hashlib.sha256(KEY.encode()).hexdigest()) as service:
        yield service


@pytest.mark.parametrize("why", REFUSED)
def test_300_refusals_of_a_large_body_are_300_answers_on_a_connection_that_stays(keyed, why):
    status, told = REFUSED[why]
    told = {"base_url": "/v1", "api_key": KEY} | told
    with openai.OpenAI(**told | {"base_url": keyed.url + told["base_url"]}, max_retries=0) as client:
        answers = [_ask(client) for _ in range(300)]
    # An address that sent too many wrong keys hears so, which is an answer too.
    assert Counter(answer.status_code for answer in answers).keys() <= {status, 429} - (
        {429} if status != 401 else set()
    )
    assert {answer.response.headers.get("connection") for answer in answers} == {None}


def _ask(client: openai.OpenAI) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="echo", messages=MESSAGES)
    return caught.value


def test_a_body_beyond_the_limit_is_answered_while_the_connection_is_closed(keyed):
    with openai.OpenAI(base_url=f"{keyed.url}/v1", api_key=KEY, max_retries=0) as client:
        for _ in range(20):
            with pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "a" * 6_000_000}])
            assert (caught.value.status_code, caught.value.response.headers["connection"]) == (413, "close")


def test_a_client_that_sends_slowly_reads_the_reason_and_then_the_end(keyed):
    for framing in ("Content-Length: 100", CHUNKED):
        with RawHTTP(keyed.port) as connection:
            answer = connection.send(request("POST", "/nothing", JSON, framing), b"5\r\nhello\r\n").answer()
            assert is_problem(answer, 404, "not_found")
            assert answer.headers["connection"] == "close"
            assert connection.is_closed()


def test_a_client_that_asks_before_it_sends_is_spared_the_body(keyed):
    with RawHTTP(keyed.port) as connection:
        connection.send(request("POST", "/nothing", JSON, "Content-Length: 9", "Expect: 100-continue"))
        assert is_problem(connection.answer(), 404, "not_found")
        assert connection.is_closed()


def test_a_get_with_a_body_leaves_the_connection_open(keyed):
    with RawHTTP(keyed.port) as connection:
        connection.send(request("GET", "/livez", "Content-Length: 5"), b"hello", request())
        assert [connection.answer().status, connection.answer().status] == [200, 200]


def test_a_packed_body_is_taken(keyed):
    body = gzip.compress(json.dumps({"prompt": "a b", "return_full_text": False}).encode())
    head = (JSON, "Content-Encoding: gzip", f"Content-Length: {len(body)}", f"Authorization: Bearer {KEY}")
    assert exchange(keyed.port, request("POST", "/v1/generate", *head), body).status == 200


def test_a_body_packed_otherwise_is_refused_with_what_is_taken(keyed):
    head = (JSON, "Content-Encoding: br", "Content-Length: 5", f"Authorization: Bearer {KEY}")
    answer = exchange(keyed.port, request("POST", "/v1/generate", *head), b"hello")
    assert is_problem(answer, 415, "unsupported_media_type")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_a_length_of_thousands_of_zeros_is_a_length(keyed):
    head = (JSON, "Content-Length: " + "0" * 5_000 + "16", f"Authorization: Bearer {KEY}")
    assert exchange(keyed.port, request("POST", "/v1/generate", *head), b'{"prompt":"a b"}').status == 200
