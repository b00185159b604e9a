"""What stands in a request's head: its size, its host, its framing, its path and its method.

hyper, under granian, refuses some of it by itself: with an empty body and no request id, for no request was made.
"""

import pytest

from tests.support.observe import is_error, is_problem, scrape
from tests.support.rawhttp import CHUNKED, JSON, RawHTTP, exchange, request
from tests.support.service import Service

BODY = b'{"prompt":"a b"}'
AS_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


# Heads


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("GET", "/livez", *(f"x-{n}: 1" for n in range(99))), 200),
        (request("GET", "/livez", *(f"x-{n}: 1" for n in range(100))), 431),
        (request("GET", "/livez", *(f"x-{n}: 1" for n in range(5_000))), 431),
        (request("GET", "/livez", "x: " + "a" * 20_000), 200),
        (request("GET", "/livez", "x: " + "a" * 65_536), 431),
        # 414 would be hyper's word for a long path, but the buffer of 32 KiB is full before.
        (request("GET", "/" + "a" * 70_000), 431),
        (request("GET", "/" + "a" * 30_000), 404),
    ],
    ids=["100 headers", "101 headers", "5000 headers", "20 KB", "64 KB", "70 KB of path", "30 KB of path"],
)
def test_a_head_is_bounded(edge, head, status):
    answer = exchange(edge.port, head)
    assert answer.status == status
    assert answer.body == b"" or status != 431


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\n\r\n",
        request(host=""),
        request("GET", "/livez", "Host: localhost"),
        request("GET", "/livez", "Host:"),
        request(host="localhost/health?"),
        request(host="localhost, localhost"),
        request(host="user@localhost"),
        request(host="local host"),
        request(host="localhost:port"),
        request("GET", "/v1/health", host="evil.example"),
        request("GET", "/v1/health", host="localhost.evil.example"),
        request("GET", "/v1/health", host="169.254.169.254:80"),
    ],
)
def test_a_host_that_is_missing_doubled_malformed_or_foreign_is_refused(edge, head):
    assert is_problem(exchange(edge.port, head), 400, "bad_host")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET /readyz HTTP/1.0\r\nHost:\r\n\r\n",
        request("GET", "/livez", host="10.1.2.3:8000"),
        request("GET", "/ping", host="pod.example"),
    ],
)
def test_a_balancers_probe_needs_no_host_of_ours(edge, head):
    assert exchange(edge.port, head).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_the_loopbacks_names_are_answered_to(edge, host):
    assert exchange(edge.port, request(host=host)).status == 200


def test_hosts_can_be_allowed_and_are_still_held_to_their_form():
    with Service(LLM_GATEWAY__SERVER__ALLOWED_HOSTS='["*"]') as service:
        assert exchange(service.port, request(host="any.example:80")).status == 200
        assert is_problem(exchange(service.port, request(host="x/health?")), 400, "bad_host")


@pytest.mark.parametrize(
    "message",
    [
        request("POST", "/v1/generate", JSON, "Content-Length: 16", "Content-Length: 17") + BODY,
        request("POST", "/v1/generate", JSON, "Content-Length: -1") + BODY,
        request("POST", "/v1/generate", JSON, "Content-Length: +16") + BODY,
        request("POST", "/v1/generate", JSON, "Content-Length: 0x10") + BODY,
        request("POST", "/v1/generate", JSON, "Content-Length: 99999999999999999999") + BODY,
        request("POST", "/v1/generate", JSON, "Transfer-Encoding: xchunked") + AS_CHUNKS,
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx: a\r\n b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx: a\0b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx : a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n: a\r\n\r\n",
        b"GET /li vez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(180),
        b"\xff" * 100 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(edge, message):
    with RawHTTP(edge.port) as connection:
        answer = connection.send(message).answer()
        assert (answer.status, answer.body) == (400, b"")
        assert connection.is_closed()


@pytest.mark.parametrize(
    ("chunks", "headers"),
    [
        (b"zz\r\n" + BODY, ()),
        (AS_CHUNKS.replace(b"0\r\n\r\n", b"zz\r\n\r\n"), ()),
        (b"-1\r\n" + BODY, ()),
        (b"f" * 17 + b"\r\n", ()),
        (AS_CHUNKS.replace(BODY, BODY + b"more"), ()),
    ],
    ids=["first size", "last size", "negative", "overflow", "longer than it says"],
)
def test_malformed_chunks_are_a_bad_request(edge, chunks, headers):
    with RawHTTP(edge.port) as connection:
        answer = connection.send(request("POST", "/v1/generate", JSON, CHUNKED, *headers), chunks).answer()
        assert is_problem(answer, 400, "invalid_json")
        assert connection.is_closed()


def test_of_a_length_and_chunks_the_chunks_count_and_the_connection_ends(edge):
    with RawHTTP(edge.port) as connection:
        head = request("POST", "/v1/generate", JSON, "Content-Length: 5", CHUNKED)
        answer = connection.send(head, AS_CHUNKS, request()).answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert connection.is_closed()


def test_one_length_said_twice_is_one_length(edge):
    head = request("POST", "/v1/generate", JSON, "Content-Length: 16", "Content-Length: 16")
    assert exchange(edge.port, head, BODY).status == 200


# Paths and methods


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/%2e%2e/livez", 404),
        ("GET", "/v1/../livez", 404),
        ("GET", "/livez%00", 404),
        ("GET", "/%ff", 404),
        ("GET", "/%", 404),
        ("GET", "/V1/models", 404),
        ("GET", "*", 404),
        ("GET", "http://localhost/nothing", 404),
        ("OPTIONS", "*", 204),
        ("POST", "/v1/models/%2e%2e/load", 404),
        ("POST", "/v1/models/..%2f..%2fetc/load", 404),
        ("POST", "/v1/models/a%0d%0aset-cookie:b/load", 404),
        ("POST", "/v1/models/%ff/unload", 404),
        # What names no path is the front.
        ("GET", "livez", 200),
        ("CONNECT", "localhost:80", 405),
        # granian decodes a path and joins its slashes; Litestar takes a slash at the end for none.
        ("GET", "//livez", 200),
        ("GET", "/li%76ez/", 200),
        ("GET", "http://localhost/livez", 200),
        ("GET", "/livez?x=%ff&x=%00", 200),
    ],
)
def test_a_path_is_a_route_or_nothing(edge, method, path, status):
    answer = exchange(edge.port, request(method, path))
    assert answer.status == status
    assert len(answer.headers["x-request-id"]) == 26
    assert "set-cookie" not in answer.headers
    if status == 404:
        assert is_problem(answer, 404, answer.error["code"])
        assert answer.error["code"] in ("not_found", "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/generate", {"OPTIONS", "POST"}),
        ("FOO", "/v1/generate", {"OPTIONS", "POST"}),
        ("HEAD", "/v1/generate", {"OPTIONS", "POST"}),
        ("DELETE", "/v1/models", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/metrics", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_a_path_does_not_take_is_refused_with_those_it_takes(edge, method, path, allow):
    answer = edge.client.request(method, path)
    assert answer.status_code == 405
    assert method == "HEAD" or is_error(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allow
    assert method == "HEAD" or f"{method} is not taken here; send" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/chat/completions", "GET, HEAD, OPTIONS, POST"),
        ("/v1/chat/completions/chatcmpl-1", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/v1/completions", "OPTIONS, POST"),
        ("/v1/responses", "OPTIONS, POST"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_names_all_methods_of_a_path(edge, path, allow):
    answer = edge.client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, allow)


@pytest.mark.parametrize(
    ("path", "step"),
    [("/v1/v1/models", "/v1 is there twice"), ("/v1", "GET /v1/models"), ("/v1/message", "/v1/messages?")],
)
def test_a_path_that_is_none_is_told_what_to_ask_instead(edge, path, step):
    assert step in edge.client.get(path).json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/v1/health", "/v1/models", "/metrics", "/schema", "/docs", "/schema/openapi.json", "/no"],
)
def test_head_tells_what_get_would_and_leaves_the_body_out(edge, path):
    told = edge.client.get(path)
    bare = edge.client.head(path)
    assert (bare.status_code, bare.content) == (told.status_code, b"")
    assert bare.headers["content-type"] == told.headers["content-type"]
    assert bare.headers["x-request-id"] != told.headers["x-request-id"]


def test_the_whole_service_says_its_methods(edge):
    answer = exchange(edge.port, request("OPTIONS", "*"))
    assert (answer.status, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST")


def test_a_connection_goes_on_behind_a_head(edge):
    with RawHTTP(edge.port) as connection:
        connection.send(request("HEAD", "/v1/models"), request("GET", "/livez", "Connection: close"))
        connection.read_until(b'{"status":"alive"}')


def test_names_that_nobody_knows_make_no_series(edge):
    edge.client.request("FOO", "/v1/generate")
    edge.client.get("/nothing")
    edge.generate(prompt="a", model="nobody")
    before = set(scrape(edge))
    for number in range(50):
        edge.client.request(f"FOO{number}", "/v1/generate")
        edge.client.get(f"/nothing/{number}")
        edge.generate(prompt="a", model=f"nobody-{number}")
    assert {name for name in set(scrape(edge)) - before if "FOO" in name or "no" in name.partition("{")[2]} == set()
    assert 'model="unknown"' in "".join(before)


# Numbers


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/messages", "/v1/chat/completions", "/v1/tokenize"])
def test_a_length_of_thousands_of_digits_is_read_as_the_number_that_it_is(edge, path):
    zeros = "0" * 5_000
    answer = exchange(edge.port, request("POST", path, JSON, f"Content-Length: {zeros}"))
    assert (answer.status, b"the body is empty" in answer.body) == (400, True)
    assert exchange(edge.port, request("POST", path, JSON, "Content-Length: " + "9" * 5_000)).status == 400
    whole = exchange(edge.port, request("POST", "/v1/generate", JSON, f"Content-Length: {zeros}{len(BODY)}"), BODY)
    assert whole.status == 200


TEXT = {"model": "echo", "prompt": "a"}
SAID = {"model": "echo", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize("seconds", ["1e-9", "1e-320", "5e-324", "0.0000001"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"prompt": "a"}),
        ("/v1/completions", TEXT),
        ("/v1/completions", TEXT | {"n": 2}),
        ("/v1/completions", TEXT | {"prompt": ["a", "b"]}),
        ("/v1/chat/completions", SAID),
        ("/v1/messages", SAID),
    ],
)
def test_a_time_that_is_over_before_anything_began_is_a_deadline(edge, path, body, stream, seconds):
    answer = edge.client.post(path, json=body | {"stream": stream}, headers={"x-request-timeout": seconds})
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "timeout_error"


def test_of_the_times_of_a_body_the_one_that_is_over_is_named(edge):
    assert is_error(edge.generate(prompt="a", timeout=1e-9), 504, "deadline_exceeded")
    assert is_error(edge.generate(prompt="a", first_token_timeout=1e-9), 504, "deadline_exceeded")
    assert is_error(edge.generate(prompt="a", queue_timeout=1e-9), 503, "queue_timeout")
