import asyncio
import json

import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway.telemetry import ROUTINE, current_record, request_id

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@get("/things/{name:str}")
async def thing(name: FromPath[str]) -> str:
    return name


@post("/generate")
async def generate() -> Response[dict[str, str]]:
    record = current_record()
    record.model, record.ttft, record.tokens, record.finish_reason = "tiny", 0.5, 3, "length"
    return Response({"text": "hi"}, status_code=200)


@get("/unknown-model")
async def unknown_model() -> Response[str]:
    current_record().code = "model_not_found"
    return Response("", status_code=404)


@get("/busy")
async def busy() -> Response[str]:
    current_record().code = "overloaded"
    return Response("", status_code=503)


@get("/probe", opt=ROUTINE)
async def probe(status: FromQuery[int], loading: FromQuery[bool] = False) -> Response[str]:  # noqa: FBT002 - a query
    current_record().is_expected = loading
    return Response("", status_code=status)


@get("/bug")
async def bug() -> None:
    raise ZeroDivisionError("PROMPT-CANARY")


@get(["/stream", "/broken-stream"])
async def stream(request: Request[object, object, State]) -> Stream:
    async def chunks():
        yield b"ab"
        if "broken" in request.url.path:
            current_record().code = "engine_error"
        yield b"cd"

    return Stream(chunks())


LITESTAR = Litestar([thing, generate, unknown_model, busy, probe, bug, stream], logging_config=None)


def scope_of(method, path, headers=()):
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(headers),
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1234),
    }


@pytest.fixture
def call(watched):
    async def make(method, path, *headers, app=LITESTAR):
        ended = asyncio.Event()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        await watched.telemetry.middleware(app)(scope_of(method, path, headers), receive, send)

    return make


@pytest.fixture
def lines(watched):
    def read():
        made = [json.loads(line) for line in watched.log.text().split("\n")[:-1]]
        return [line for line in made if line.get("event") == "request"]

    return read


def key(**labels):
    return tuple(sorted(labels.items()))


async def test_the_span_has_the_routes_name_and_the_http_attributes(call, watched):
    await call("GET", "/things/PROMPT-CANARY", (b"traceparent", PARENT))
    (span,) = watched.spans().values()
    assert span.name == "GET /things/{name}"
    assert span.kind is SpanKind.SERVER
    assert span.parent.span_id == 0xB7AD6B7169203331
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/things/{name}",
        "http.response.status_code": 200,
        "url.path": "/things/PROMPT-CANARY",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "llm_gateway.outcome": "ok",
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_a_client_behind_a_proxy_is_named_beside_it(call, watched, lines):
    async def forwarded(scope, receive, send):
        scope["client"] = ("192.0.2.7", 0)
        await LITESTAR(scope, receive, send)

    await call("GET", "/things/a", app=forwarded)
    (span,) = watched.spans().values()
    assert (span.attributes["client.address"], span.attributes["network.peer.address"]) == ("192.0.2.7", "127.0.0.1")
    assert [line["client"] for line in lines()] == ["192.0.2.7"]


async def test_the_span_names_the_request_the_key_and_the_code_of_a_refusal(watched):
    async def app(scope, receive, send):
        record = current_record()
        record.key, record.code = "k3f9a0c2d1", "model_not_found"
        request_id.set("01JREQUEST")
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    token = request_id.set("")
    await watched.telemetry.middleware(app)(scope_of("GET", "/"), None, lambda _: asyncio.sleep(0))
    request_id.reset(token)
    (span,) = watched.spans().values()
    assert span.attributes["llm_gateway.request.id"] == "01JREQUEST"
    assert span.attributes["llm_gateway.key.id"] == "k3f9a0c2d1"
    assert span.attributes["llm_gateway.outcome"] == "refused"
    assert span.attributes["error.type"] == "model_not_found"


@pytest.mark.parametrize("status", [200, 401, 503])
async def test_what_is_routine_is_not_traced(call, watched, status):
    await call("GET", f"/probe?status={status}", (b"traceparent", PARENT))
    assert watched.spans() == {}


async def test_a_request_is_counted_under_its_route_status_and_model(call, samples):
    await call("POST", "/generate")
    await call("GET", "/things/a")
    await call("GET", "/things/b")
    assert samples("llm_gateway_requests_total") == {
        key(endpoint="/generate", status="200", model="tiny"): 1,
        key(endpoint="/things/{name}", status="200", model=""): 2,
    }
    assert samples("llm_gateway_request_duration_seconds_count") == {
        key(endpoint="/generate", status="200"): 1,
        key(endpoint="/things/{name}", status="200"): 2,
    }


async def test_a_thousand_paths_methods_and_models_make_no_new_series(call, samples, watched):
    await call("GET", "/nowhere")
    await call("POST", "/things/a")
    await call("FOO", "/nowhere")
    await call("GET", "/unknown-model")
    first = samples("llm_gateway_requests_total")
    for number in range(50):
        await call(f"FOO{number}", f"/nowhere/{number}")
        await call("GET", f"/nowhere/{number}?x={number}")
        await call("GET", f"/unknown-model?model={number}")
    assert samples("llm_gateway_requests_total").keys() == first.keys()
    assert key(endpoint="unmatched", status="404", model="") in first
    assert key(endpoint="/things/{name}", status="405", model="") in first
    assert key(endpoint="/unknown-model", status="404", model="unknown") in first
    assert {name for name in watched.spans() if "FOO" in name} == set()


async def test_each_request_is_one_line(call, lines):
    token = request_id.set("01JREQUEST")
    await call("POST", "/generate?secret=PROMPT-CANARY", (b"traceparent", PARENT))
    request_id.reset(token)
    (line,) = lines()
    assert line["message"] == "POST /generate 200"
    assert line["request_id"] == "01JREQUEST"
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "code" not in line
    assert (line["method"], line["route"], line["path"]) == ("POST", "/generate", "/generate")
    assert (line["status"], line["model"], line["outcome"]) == (200, "tiny", "ok")
    assert line["finish_reason"] == "length"
    assert (line["ttft_ms"], line["tokens"], line["bytes"]) == (500, 3, len('{"text":"hi"}'))
    assert line["duration_ms"] > 0
    assert "CANARY" not in json.dumps(line)


@pytest.mark.parametrize(
    ("path", "answer", "is_error"),
    [
        ("/things/a", (200, None, "ok"), False),
        ("/unknown-model", (404, "model_not_found", "refused"), False),
        ("/busy", (503, "overloaded", "error"), True),
        ("/nowhere", (404, None, "refused"), False),
        ("/bug", (500, None, "error"), True),
        ("/stream", (200, None, "ok"), False),
        ("/broken-stream", (200, "engine_error", "aborted"), True),
    ],
)
async def test_the_outcome_follows_from_the_answer(watched, call, path, answer, is_error):
    status, code, outcome = answer
    await call("GET", path)
    line = json.loads(watched.log.text())
    assert (line["status"], line.get("code"), line["outcome"]) == (status, code, outcome)
    (span,) = watched.spans().values()
    assert span.status.status_code is (StatusCode.ERROR if is_error else StatusCode.UNSET)
    assert span.attributes.get("error.type") == (None if outcome == "ok" else code or str(status))
    assert span.attributes["llm_gateway.outcome"] == outcome
    assert "CANARY" not in span.to_json()
    assert "CANARY" not in json.dumps(line)


async def test_refusals_and_aborts_are_counted_by_code(call, samples):
    for path in ("/unknown-model", "/busy", "/nowhere", "/bug", "/broken-stream"):
        await call("GET", path)
    assert samples("llm_gateway_rejected_total") == {
        key(code="model_not_found"): 1,
        key(code="overloaded"): 1,
        key(code="http_404"): 1,
    }
    assert samples("llm_gateway_stream_aborts_total") == {key(cause="engine_error"): 1}


async def test_each_failure_is_counted_once_by_its_domain(call, samples, watched, lines):
    for path in ("/unknown-model", "/busy", "/nowhere", "/bug", "/broken-stream", "/things/a", "/stream"):
        await call("GET", path)
    assert samples("llm_gateway_errors_total") == {
        key(domain="caller", code="model_not_found", model="unknown"): 1,
        key(domain="service", code="overloaded", model=""): 1,
        key(domain="caller", code="http_404", model=""): 1,
        key(domain="service", code="http_500", model=""): 1,
        key(domain="engine", code="engine_error", model=""): 1,
    }
    domains = ["caller", "service", "caller", "service", "engine", None, None]
    assert [line.get("domain") for line in lines()] == domains
    assert watched.spans()["GET /busy"].attributes["llm_gateway.fault.domain"] == "service"
    assert "llm_gateway.fault.domain" not in watched.spans()["GET /stream"].attributes


async def test_a_probes_503_is_its_answer_and_no_refusal(call, samples):
    await call("GET", "/probe?status=503")
    assert samples("llm_gateway_requests_total") == {key(endpoint="/probe", status="503", model=""): 1}
    assert samples("llm_gateway_rejected_total") == {}
    assert samples("llm_gateway_errors_total") == {}


@pytest.mark.parametrize(
    "asked",
    [
        ("/probe?status=200", "DEBUG"),
        ("/probe?status=503", "INFO"),
        ("/probe?status=503&loading=true", "DEBUG"),
        ("/things/a", "INFO"),
    ],
)
async def test_what_is_routine_is_told_only_to_who_wants_everything(call, lines, log, asked):
    path, level = asked
    log.configure(log_level="DEBUG")
    await call("GET", path)
    log.configure()
    await call("GET", path)
    assert [line["level"] for line in lines()] == ([level] if level == "DEBUG" else [level] * 2)


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("POST", "/things/a", "/things/{name}"),
        ("DELETE", "/generate/", "/generate"),
        ("BREW", "/bug", "/bug"),
        ("POST", "/nowhere", "unmatched"),
        ("POST", "/things", "unmatched"),
    ],
)
async def test_a_wrong_method_is_counted_under_the_route_that_it_missed(call, samples, method, path, endpoint):
    await call(method, path)
    ((labels, _),) = samples("llm_gateway_requests_total").items()
    assert dict(labels)["endpoint"] == endpoint


async def hang(scope, receive, send):
    scope["path_template"] = "/hang"
    if scope["query_string"]:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await asyncio.Event().wait()


@pytest.mark.parametrize("left", [("", "compute", 499), ("?stream", "stream", 200)])
async def test_a_client_that_leaves_is_counted_and_is_no_error(watched, call, lines, samples, left):
    query, phase, status = left
    serving = asyncio.create_task(call("GET", f"/hang{query}", app=hang))
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    (line,) = lines()
    assert (line["status"], line["code"], line["outcome"]) == (status, "client_closed_request", "client_closed")
    assert samples("llm_gateway_client_disconnects_total") == {key(phase=phase): 1}
    assert samples("llm_gateway_requests_total") == {key(endpoint="/hang", status=str(status), model=""): 1}
    (span,) = watched.spans().values()
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["llm_gateway.outcome"] == "client_closed"
    assert span.attributes["error.type"] == "client_closed_request"


async def test_a_stream_without_its_end_means_that_the_client_left(call, lines):
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})

    await call("GET", "/", app=half)
    assert lines()[0]["outcome"] == "client_closed"


@pytest.mark.parametrize("ended", [(False, "error", 500), (True, "aborted", 200)])
async def test_an_error_that_nobody_answered_is_an_internal_error_and_goes_on(call, lines, samples, ended):
    started, outcome, status = ended

    async def broken(scope, receive, send):
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call("GET", "/", app=broken)
    (line,) = lines()
    assert (line["status"], line["code"], line["outcome"]) == (status, "internal_error", outcome)
    assert bool(samples("llm_gateway_stream_aborts_total")) is started


@pytest.mark.parametrize(
    "text", ["\n", "\r\n{}", "\x1b[2K", "\u2028", "\ud800", "\x00", "é" * 5000, "\U0001f600" * 5000]
)
async def test_a_hostile_path_makes_one_line_and_a_span_that_can_be_sent(call, lines, watched, text):
    await call("GET", f"/nowhere/{text}")
    (line,) = lines()
    assert len(line["path"]) <= 256
    (span,) = watched.spans().values()
    span.attributes["url.path"].encode()


async def test_requests_side_by_side_keep_their_own_records(call, lines):
    async def app(scope, receive, send):
        current_record().model = scope["path"][1:]
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(call("GET", f"/m{number}", app=app))
    made = lines()
    assert len(made) == 50
    assert all(line["model"] == line["path"][1:] for line in made)


async def test_other_scopes_pass_untouched(watched):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await watched.telemetry.middleware(app)({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
    assert watched.spans() == {}


async def test_the_duration_of_a_request_leads_to_its_span_and_that_of_a_probe_nowhere(call, watched):
    await call("GET", "/probe?status=200")
    await call("GET", "/things/a")
    text = watched.telemetry.metrics.render("application/openmetrics-text")[0].decode()
    samples = [sample for family in read_openmetrics(text) for sample in family.samples if sample.exemplar]
    (span,) = watched.spans().values()
    found = {(sample.labels["endpoint"], sample.exemplar.labels["trace_id"]) for sample in samples}
    assert found == {("/things/{name}", f"{span.context.trace_id:032x}")}
