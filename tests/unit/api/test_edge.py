import asyncio
import gc
import json
import weakref

import msgspec
import pytest

from gateway.api.edge import Edge
from gateway.api.errors import Errors
from gateway.api.http.problems import Problem
from gateway.config import Config, CorsSettings, ServerSettings
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.telemetry import request_id

SETTINGS = ServerSettings(max_body_bytes=1_024, body_seconds=0.05)


def guard(app, settings=SETTINGS, origins=()):
    return Edge(
        app,
        CurrentConfig(Snapshot.of(Config(server=settings, cors=CorsSettings(origins=tuple(origins))))),
        Errors((), {}),
    )


class Exchange:
    """One request through a guard: what comes in, and what goes out."""

    def __init__(self, *messages, headers=((b"host", b"localhost"),)) -> None:
        self.scope = {"type": "http", "headers": list(headers), "path": "/", "method": "POST", "http_version": "1.1"}
        self.sent: list[dict] = []
        self._messages = list(messages)

    async def receive(self):
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message):
        self.sent.append(message)

    async def run(self, app, settings=SETTINGS):
        await guard(app, settings)(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def code(self) -> str:
        return json.loads(self.sent[1]["body"])["error"]["code"]

    @property
    def message(self) -> str:
        return json.loads(self.sent[1]["body"])["error"]["message"]


def piece(body: bytes, *, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": request_id.get().encode(), "more_body": False})


async def read(scope, receive, send):
    while (await receive())["more_body"]:
        pass
    await answer(scope, receive, send)


async def test_the_answers_id_is_the_contexts_id():
    exchange = await Exchange().run(answer)
    assert exchange.headers == {b"a": b"b", b"x-request-id": exchange.sent[1]["body"]}


@pytest.mark.parametrize(
    ("bound", "allowed", "host", "status"),
    [
        ("127.0.0.1", (), b"localhost", 200),
        ("10.1.2.3", (), b"10.1.2.3:80", 200),
        ("10.1.2.3", (), b"127.0.0.1", 200),
        ("10.1.2.3", (), b"10.1.2.4", 400),
        ("2001:db8::a:1", (), b"[2001:DB8::a:1]:80", 200),
        ("::1", (), b"[::1]", 200),
        ("0.0.0.0", (), b"any.example", 200),  # noqa: S104 - a name for every address
        ("::", (), b"any.example", 200),
        ("0.0.0.0", (), b"any.example/path", 400),  # noqa: S104 - a name for every address
        ("127.0.0.1", ("api.example",), b"API.example:8000", 200),
        ("127.0.0.1", ("API.example",), b"api.example", 200),
        ("127.0.0.1", ("api.example",), b"localhost", 400),
        ("127.0.0.1", ("*",), b"any.example", 200),
        ("127.0.0.1", ("*",), b"", 400),
        ("127.0.0.1", ("*",), b"\xff", 400),
    ],
)
async def test_only_hosts_of_ours_are_answered_to(bound, allowed, host, status):
    settings = ServerSettings(host=bound, allowed_hosts=allowed)
    exchange = await Exchange(headers=[(b"host", host)]).run(answer, settings)
    assert exchange.status == status
    assert status == 200 or exchange.code == "bad_host"


@pytest.mark.parametrize("headers", [[], [(b"host", b"localhost")] * 2, [(b"host", b"localhost"), (b"host", b"")]])
async def test_there_is_one_host(headers):
    assert (await Exchange(headers=headers).run(answer)).code == "bad_host"


@pytest.mark.parametrize("headers", [[], [(b"host", b"")]])
async def test_a_probe_of_http_1_0_needs_no_host(headers):
    exchange = Exchange(headers=headers)
    exchange.scope["http_version"] = "1.0"
    assert (await exchange.run(answer)).status == 200


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/ping", 200), ("/v1/health", 400)])
async def test_a_probe_is_answered_at_any_host(path, status):
    exchange = Exchange(headers=[(b"host", b"10.1.2.3:8000")])
    exchange.scope["path"] = path
    assert (await exchange.run(answer)).status == status


async def test_a_refused_host_is_told_the_line_that_lets_it_in():
    exchange = await Exchange(headers=[(b"host", b"host.docker.internal:8000")]).run(answer)
    line = 'allowed_hosts = ["127.0.0.1", "[::1]", "localhost", "host.docker.internal"] under [server]'
    assert line in exchange.message
    settings = msgspec.toml.decode(line.removesuffix(" under [server]"), type=ServerSettings)
    assert (await Exchange(headers=[(b"host", b"host.docker.internal")]).run(answer, settings)).status == 200


async def test_the_hosts_that_a_configuration_lists_are_not_told():
    settings = ServerSettings(allowed_hosts=("secret.example",))
    exchange = await Exchange(headers=[(b"host", b"other.example")]).run(answer, settings)
    assert 'add "other.example" to allowed_hosts' in exchange.message
    assert "secret" not in exchange.message


async def test_a_body_may_be_as_large_as_the_limit():
    pieces = [piece(b"a" * 1_000, more=True), piece(b"a" * 24)]
    assert (await Exchange(*pieces).run(read)).status == 200


@pytest.mark.parametrize(
    ("pieces", "length"),
    [([piece(b"a" * 1_025)], b""), ([piece(b"a" * 1_000, more=True), piece(b"a" * 25)], b""), ([], b"1025")],
    ids=["one piece", "two pieces", "its own word"],
)
async def test_a_larger_body_is_refused(pieces, length):
    headers = [(b"host", b"localhost"), (b"content-length", length)]
    exchange = await Exchange(*pieces, headers=headers).run(read)
    assert (exchange.status, exchange.code) == (413, "request_too_large")
    assert exchange.headers[b"connection"] == b"close"


async def test_a_body_that_does_not_come_is_refused():
    exchange = await Exchange(piece(b"a", more=True)).run(read)
    assert (exchange.status, exchange.code) == (408, "body_timeout")
    assert exchange.headers[b"connection"] == b"close"


async def test_after_the_body_there_is_no_hurry():
    left = asyncio.Event()

    class Patient(Exchange):
        async def receive(self):
            if self._messages:
                return self._messages.pop(0)
            await left.wait()
            return {"type": "http.disconnect"}

    async def wait(scope, receive, send):
        await read(scope, receive, send)
        asyncio.get_running_loop().call_later(SETTINGS.body_seconds * 2, left.set)
        assert (await receive())["type"] == "http.disconnect"

    assert (await Patient(piece(b"a")).run(wait)).status == 200


@pytest.mark.parametrize(
    ("header", "code"),
    [((b"content-length", b"9"), "client_closed_request"), ((b"transfer-encoding", b"chunked"), "invalid_json")],
)
async def test_a_body_that_breaks_off_is_the_clients_fault(header, code):
    headers = [(b"host", b"localhost"), header]
    exchange = await Exchange(piece(b"a", more=True), {"type": "http.disconnect"}, headers=headers).run(read)
    assert exchange.code == code


async def test_what_nobody_foresaw_is_a_500_that_says_nothing():
    async def broken(scope, receive, send):
        raise ZeroDivisionError("secret")

    exchange = await Exchange().run(broken)
    assert (exchange.status, exchange.code) == (500, "internal_error")
    assert b"secret" not in exchange.sent[1]["body"]
    assert b"x-request-id" in exchange.headers


async def test_an_answer_that_has_begun_is_broken_off():
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(Problem):
        await Exchange().run(broken)


async def test_a_traceback_that_lives_on_does_not_hold_the_connection():
    kept = []

    async def keep(scope, receive, send):
        try:
            await read(scope, receive, send)
        except Problem as problem:
            kept.append(problem)
            await answer(scope, receive, send)

    class Silent(Exchange):
        def receive(self):  # as granian's: no frame of it is in a traceback
            return asyncio.get_running_loop().create_future()

    exchange = Silent()
    await exchange.run(keep)
    connection = weakref.ref(exchange)
    gc.disable()
    try:
        del exchange
        await asyncio.sleep(0)  # the loop itself holds the cancelled read for one more turn
        assert connection() is None
    finally:
        gc.enable()
    assert kept


@pytest.mark.parametrize(
    ("method", "seen", "body"), [("HEAD", "GET", b""), ("GET", "GET", b"hi"), ("POST", "POST", b"hi")]
)
async def test_head_is_get_without_the_body(method, seen, body):
    methods = []

    async def app(scope, receive, send):
        methods.append(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi", "more_body": False})

    exchange = Exchange()
    exchange.scope["method"] = method
    await exchange.run(app)
    assert methods == [seen]
    assert exchange.headers[b"content-length"] == b"2"
    assert exchange.sent[1]["body"] == body


@pytest.mark.parametrize(
    ("allowed", "told"), [(b"GET, OPTIONS", b"GET, HEAD, OPTIONS"), (b"OPTIONS, POST", b"OPTIONS, POST")]
)
async def test_where_get_is_allowed_head_is(allowed, told):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 405, "headers": [(b"allow", allowed)]})

    assert (await Exchange().run(app)).headers[b"allow"] == told


async def test_what_is_not_http_passes_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    await guard(app)({"type": "lifespan"}, None, None)
    assert seen == [({"type": "lifespan"}, None, None)]


ROOTED = ServerSettings(root_path="/llm", forwarded_allow=("10.0.0.1",), allowed_hosts=("localhost", "a.example"))


async def seen_of(path, *headers, peer="10.0.0.1"):
    """Return what the application sees of a request, or the code of the error."""
    seen = []

    async def app(scope, receive, send):
        seen.append(dict(scope))
        await answer(send)

    exchange = Exchange(headers=((b"host", b"localhost"), *headers))
    exchange.scope |= {"path": path, "raw_path": path.encode(), "client": (peer, 1), "scheme": "http"}
    await exchange.run(app, ROOTED)
    return seen[0] if seen else exchange.code


@pytest.mark.parametrize(
    ("path", "inner"),
    [
        ("/llm/v1/models", "/v1/models"),
        ("/v1/models", "/v1/models"),
        ("/llm/", "/"),
        ("/llm", "/"),
        ("/", "/"),
        ("/llm/llm/x", "/llm/x"),
        ("/llmx", "/llmx"),
        ("/a/llm/b", "/a/llm/b"),
    ],
)
async def test_a_path_is_found_with_its_prefix_and_without(path, inner):
    seen = await seen_of(path)
    assert (seen["path"], seen["raw_path"], seen["root_path"]) == (inner, inner.encode(), "/llm")


async def test_a_forwarded_host_takes_the_place_of_the_proxys_and_is_held_to_the_same_rules():
    seen = await seen_of("/", (b"x-forwarded-host", b"a.example"), (b"origin", b"https://a.example"))
    assert dict(seen["headers"])[b"host"] == b"a.example"
    assert await seen_of("/", (b"x-forwarded-host", b"evil.example")) == "bad_host"
    assert await seen_of("/", (b"x-forwarded-host", b"a.example/..")) == "bad_host"
    stranger = await seen_of("/", (b"x-forwarded-host", b"evil.example"), peer="10.0.0.2")
    assert dict(stranger["headers"])[b"host"] == b"localhost"


async def test_a_forwarded_host_does_not_excuse_a_foreign_one():
    """A page that has rebound its own name can send the header too; the proxy then passes it on."""
    exchange = Exchange(headers=((b"host", b"evil.example"), (b"x-forwarded-host", b"a.example")))
    exchange.scope |= {"client": ("10.0.0.1", 1), "scheme": "http"}
    await exchange.run(None, ROOTED)
    assert exchange.code == "bad_host"
