"""Connections, and bodies on their way in: slow, silent, broken off, too large, or no HTTP/1 at all."""

import contextlib
import time

import pytest

from tests.support.observe import eventually, is_error, is_problem, logged, scrape
from tests.support.rawhttp import CHUNKED, JSON, RawHTTP, exchange, post, request

BODY = b'{"prompt":"a b"}'
AS_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


# Slow and silent clients


def test_a_connection_without_a_whole_head_is_closed(hasty):
    with contextlib.ExitStack() as open_until_the_end:
        slow = [open_until_the_end.enter_context(RawHTTP(hasty.port)) for _ in range(20)]
        for number, connection in enumerate(slow):
            connection.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx-slow: "[: number * 3])
        assert hasty.client.get("/livez").status_code == 200
        assert all(connection.is_closed() for connection in slow)


def test_dripping_bytes_does_not_keep_a_head_open(hasty):
    begun = time.monotonic()
    with RawHTTP(hasty.port) as connection, contextlib.suppress(OSError):
        while time.monotonic() < begun + 20:
            connection.send(b"x")
            time.sleep(0.1)
    assert time.monotonic() < begun + 20


def test_an_idle_connection_is_closed_after_its_answer(hasty):
    with RawHTTP(hasty.port) as connection:
        assert connection.send(request()).answer().status == 200
        assert connection.is_closed()


def test_a_body_that_does_not_come_is_waited_for_and_then_refused(hasty):
    length = request("POST", "/v1/generate", JSON, "Content-Length: 10")
    chunked = request("POST", "/v1/generate", JSON, CHUNKED)
    begun = [length, length + b'{"p', chunked, chunked + AS_CHUNKS.removesuffix(b"0\r\n\r\n")] * 3
    with contextlib.ExitStack() as open_until_the_end:
        for connection in [open_until_the_end.enter_context(RawHTTP(hasty.port)).send(begin) for begin in begun]:
            answer = connection.answer()
            assert is_problem(answer, 408, "body_timeout")
            assert answer.headers["connection"] == "close"
            assert connection.is_closed()
    line = logged(hasty, answer.headers["x-request-id"])
    assert (line["status"], line["code"], line["outcome"]) == (408, "body_timeout", "refused")


def test_a_body_that_drips_is_refused_at_the_same_time(hasty):
    begun = time.monotonic()
    with RawHTTP(hasty.port) as connection:
        connection.send(request("POST", "/v1/generate", JSON, "Content-Length: 1000"))
        with contextlib.suppress(OSError):
            while time.monotonic() < begun + 1.5:
                connection.send(b" ")
                time.sleep(0.05)
        assert is_problem(connection.answer(), 408, "body_timeout")


def test_waiting_for_bodies_is_counted(hasty):
    sample = 'llm_gateway_rejected_total{code="body_timeout"}'
    before = scrape(hasty).get(sample, 0)
    exchange(hasty.port, request("POST", "/v1/generate", JSON, "Content-Length: 10"))
    assert scrape(hasty)[sample] == before + 1


def test_an_upload_that_breaks_off_is_the_clients_end(edge):
    with RawHTTP(edge.port) as connection:
        connection.send(request("POST", "/v1/generate", JSON, "Content-Length: 10"), b'{"p').half_close()
        answer = connection.answer()
    line = logged(edge, answer.headers["x-request-id"])
    assert (line["status"], line["code"], line["outcome"]) == (499, "client_closed_request", "client_closed")


# Bodies


def test_a_body_too_large_by_its_own_word_is_refused_unread(edge):
    for headers in ([], ["Expect: 100-continue"]):
        with RawHTTP(edge.port) as connection:
            answer = connection.send(
                request("POST", "/v1/generate", JSON, "Content-Length: 4194305", *headers)
            ).answer()
            assert is_problem(answer, 413, "request_too_large")
            assert connection.is_closed()


def test_a_body_too_large_in_chunks_is_refused_before_its_end(edge):
    with RawHTTP(edge.port) as connection:
        connection.send(request("POST", "/v1/generate", JSON, CHUNKED))
        with contextlib.suppress(OSError):
            for _ in range(65):
                connection.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        assert is_problem(connection.answer(), 413, "request_too_large")


def test_the_largest_body_is_read(edge):
    body = b'{"prompt":"a","return_full_text":false}'
    assert exchange(edge.port, post(body + b" " * (4_194_304 - len(body)))).status == 200


def test_a_body_of_many_small_chunks_is_read(edge):
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY + b" " * 5_000)
    assert exchange(edge.port, request("POST", "/v1/generate", JSON, CHUNKED), chunks, b"0\r\n\r\n").status == 200


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(edge):
    with RawHTTP(edge.port) as connection:
        connection.send(request("POST", "/v1/generate", JSON, "Content-Length: 16", "Expect: 100-continue"))
        assert connection.answer().status == 100
        assert connection.send(BODY).answer().status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", "json", ""]
)
def test_what_a_web_pages_plain_form_can_send_is_refused(edge, kind):
    answer = edge.client.post("/v1/generate", content=BODY, headers={"content-type": kind})
    assert is_error(answer, 415, "unsupported_media_type")


def test_a_body_without_a_type_is_refused(edge):
    assert is_error(edge.client.post("/v1/generate", content=BODY), 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_is_taken_however_it_is_written(edge, kind):
    assert edge.client.post("/v1/generate", content=BODY, headers={"content-type": kind}).status_code == 200


# Other protocols, and many connections


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (
            request(
                "GET",
                "/livez",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Protocol: gr\xfc\xdfe",
            ),
            200,
        ),
        (
            request("GET", "/livez", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"),
            200,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 0),
    ],
    ids=["websocket", "h2c upgrade", "h2c preface"],
)
def test_an_upgrade_is_not_taken(edge, message, status):
    pid = edge.client.get("/probe").json()["pid"]
    assert exchange(edge.port, message).status == status
    assert edge.client.get("/probe").json()["pid"] == pid


def test_requests_sent_in_one_go_are_answered_in_order(edge):
    with RawHTTP(edge.port) as connection:
        connection.send(*(post({"prompt": f"number {number}", "return_full_text": False}) for number in range(8)))
        texts = [connection.answer().body for _ in range(8)]
    assert all(b'"generated_text":"number %d"' % number in text for number, text in enumerate(texts))


def test_idle_connections_do_not_hinder_a_new_one(edge):
    with contextlib.ExitStack() as open_until_the_end:
        for _ in range(300):
            open_until_the_end.enter_context(RawHTTP(edge.port))
        begun = time.monotonic()
        assert exchange(edge.port, request()).status == 200
        assert time.monotonic() - begun < 20 * 0.05


def test_connections_that_come_and_go_leave_nothing(edge):
    statuses = {exchange(edge.port, request("GET", "/livez", "Connection: close")).status for _ in range(300)}
    assert statuses == {200}
    eventually(lambda: edge.client.get("/probe").json()["running"] == 0)
