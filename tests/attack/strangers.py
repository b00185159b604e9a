"""What a key, a page of another site, or a path that means another may not reach."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from tests.attack.table import attack
from tests.attack.target import Target
from tests.attack.transport import typed
from tests.chaos.row import Row, none_of
from tests.support.rawhttp import JSON, RawAnswer, exchange, request

_CANARY = "a canary that no other key may see"
_CHAT = {"model": "echo", "messages": [{"role": "user", "content": _CANARY}], "max_tokens": 16}
_REPLAY = {"LLM_GATEWAY__REPLAY__REQUESTS": "100"}
_ROOT = "/llm"


class _Belongings(NamedTuple):
    """What one key has: the ids by which a stranger might ask for it."""

    response: str
    completion: str
    conversation: str
    item: str
    file: str
    batch: str
    request: str


def _send(target: Target, method: str, path: str, key: str, **sent: Any) -> httpx.Response:
    return target.send(method, path, headers={"authorization": f"Bearer {target.keys[key]}"}, **sent)


def _belong(target: Target) -> _Belongings:
    response = target.post("/v1/responses", {"model": "echo", "input": _CANARY, "max_output_tokens": 16}).json()
    completion = target.post("/v1/chat/completions", _CHAT | {"store": True}).json()
    asked = target.post("/v1/chat/completions", _CHAT | {"temperature": 0}).headers["x-request-id"]
    items = [{"type": "message", "role": "user", "content": _CANARY}]
    conversation = target.post("/v1/conversations", {"items": items}).json()["id"]
    listed = _send(target, "GET", f"/v1/conversations/{conversation}/items", "attacker").json()
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": _CHAT}
    file = _send(
        target,
        "POST",
        "/v1/files",
        "attacker",
        files={"file": ("a.jsonl", json.dumps(line).encode())},
        data={"purpose": "batch"},
    ).json()["id"]
    batch = target.post(
        "/v1/batches", {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    ).json()["id"]
    return _Belongings(response["id"], completion["id"], conversation, listed["data"][0]["id"], file, batch, asked)


def _foreign(own: _Belongings) -> list[tuple[str, str, object]]:
    """List every way to what belongs to another key."""
    chat, response = f"/v1/chat/completions/{own.completion}", f"/v1/responses/{own.response}"
    conversation = f"/v1/conversations/{own.conversation}"
    ways: list[tuple[str, str, object]] = [
        *((method, chat, None) for method in ("GET", "DELETE")),
        ("POST", chat, {"metadata": {"mine": "now"}}),
        ("GET", f"{chat}/messages", None),
        *((method, response, None) for method in ("GET", "DELETE")),
        ("GET", f"{response}?stream=true", None),
        ("POST", f"{response}/cancel", None),
        ("GET", f"{response}/input_items", None),
        *((method, conversation, None) for method in ("GET", "DELETE")),
        ("POST", conversation, {"metadata": {"mine": "now"}}),
        ("GET", f"{conversation}/items", None),
        ("POST", f"{conversation}/items", {"items": [{"type": "message", "role": "user", "content": "mine"}]}),
        *((method, f"{conversation}/items/{own.item}", None) for method in ("GET", "DELETE")),
        *((method, f"/v1/files/{own.file}", None) for method in ("GET", "DELETE")),
        ("GET", f"/v1/files/{own.file}/content", None),
        ("GET", f"/v1/batches/{own.batch}", None),
        ("POST", f"/v1/batches/{own.batch}/cancel", None),
        ("GET", f"/v1/files?after={own.file}", None),
        ("GET", f"/v1/batches?after={own.batch}", None),
        ("GET", f"/v1/chat/completions?after={own.completion}", None),
    ]
    asked = {"model": "echo", "input": "go on", "max_output_tokens": 16}
    bodies = [{"previous_response_id": own.response}, {"conversation": own.conversation}]
    bodies += [{"input": [{"type": "item_reference", "id": own.item}]}]
    ways += [("POST", "/v1/responses", asked | body) for body in bodies]
    ways += [("POST", "/v1/responses/input_tokens", {"model": "echo", "input": "a"} | body) for body in bodies]
    explained = [{"url": "/v1/responses", "body": asked | body} for body in bodies]
    ways += [("POST", "/v1/explain", body) for body in explained]
    batch = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return [*ways, ("POST", "/v1/batches", batch | {"input_file_id": own.file})]


@attack(seconds=20.0, **_REPLAY)
def records_of_another_key(target: Target) -> Iterator[Row]:
    """Ask for all that another key has stored, by every route that takes an id: it is not there."""
    own = _belong(target)
    ways = [*_foreign(own), ("POST", f"/v1/replay/{own.request}", None)]
    answers = {way[:2]: _send(target, way[0], way[1], "guest", json=way[2]) for way in ways}
    open_ends = [
        f"{answer.status_code} {way}" for way, answer in answers.items() if answer.status_code not in (403, 404)
    ]
    told = [str(way) for way, answer in answers.items() if _CANARY in answer.text]
    yield none_of("ways that are open: " + "; ".join(open_ends)[:200], len(open_ends), len(ways))
    yield none_of("answers that show it: " + "; ".join(told)[:200], len(told), len(ways))
    gone = [
        way
        for way in _foreign(own)
        if way[0] == "GET" and "stream" not in way[1]
        if _send(target, way[0], way[1], "attacker").status_code != 200
    ]
    yield none_of("ways of its own that are gone: " + str(gone)[:200], len(gone), len(ways))
    target.post(f"/v1/batches/{own.batch}/cancel", {})


@attack(seconds=15.0, **_REPLAY)
def admins_routes(target: Target) -> Iterator[Row]:
    """Ask for what an admin may, without a key and with one that may ask models, by the paths that mean the same."""
    asked = target.post("/v1/chat/completions", _CHAT | {"temperature": 0}).headers["x-request-id"]
    routes = [("POST", "/v1/models/echo/unload"), ("POST", "/v1/models/tiny/load"), ("GET", "/metrics")]
    routes += [("DELETE", f"/v1/requests/{asked}"), ("POST", f"/v1/replay/{asked}"), ("GET", "/v1/metrics")]
    routes += [("POST", f"/v1/replay/{asked}?anyway=true"), ("HEAD", "/metrics")]
    ways = [(method, way, key) for method, path in routes for way in _tricks(path) for key in ("guest", "")]
    answers = {way: _raw(target, *way) for way in ways}
    open_ends = [f"{answer.status} {way}" for way, answer in answers.items() if answer.status < 400]
    yield none_of("ways that are open: " + "; ".join(open_ends)[:300], len(open_ends), len(ways))
    wrong = [f"{answer.status} {way}" for way, answer in answers.items() if answer.status >= 500]
    yield none_of("answers of 5xx: " + "; ".join(wrong)[:300], len(wrong), len(ways))


def _tricks(path: str) -> list[str]:
    """Write a path in the ways that some servers take for the same."""
    last = path.rpartition("/")[2]
    return [
        path,
        f"{path}/",
        f"/{path}",
        f"/v1/..{path}",
        f"/livez/..{path}",
        f"/./{path[1:]}",
        f"/livez;{path}",
        path.replace("/v1", "/V1"),
        path.replace("/", "%2f"),
        path.replace("/", "\\"),
        path.replace(last, "".join(f"%{ord(letter):02x}" for letter in last)) if "?" not in last else path,
        f"{path}%00",
        f"{path}#/livez",
        f"http://localhost{path}",
    ]


def _raw(target: Target, method: str, path: str, key: str, *headers: str) -> RawAnswer:
    bearer = [f"Authorization: Bearer {target.keys[key]}"] if key else []
    length = ["Content-Length: 0"] if method == "POST" else []
    head = request(method, path, *bearer, *length, "Connection: close", *headers)
    return exchange(target.service.port, head)


@attack(seconds=20.0, LLM_GATEWAY__SERVER__ROOT_PATH=_ROOT)
def paths_under_a_prefix(target: Target) -> Iterator[Row]:
    """Leave a prefix, come back, and climb out of the playground's folder: there is nothing but what is served."""
    climbs = ["../" * 8 + "etc/passwd", "%2e%2e/" * 8 + "etc/passwd", "..%2f" * 8 + "etc%2fpasswd", "/etc/passwd"]
    climbs += ["....//" * 8 + "etc/passwd", "..\\" * 8 + "etc\\passwd", "page.css%00.js", "page.js", "vendor", ""]
    climbs += ["a" * 8_000, "%ff%fe", "%", "%zz", "\u00e9"]
    page = target.send("GET", f"{_ROOT}/").text
    files = page.partition('href="')[2].partition("/page.css")[0].rpartition('"')[2] or "playground/0"
    folders = [f"{_ROOT}/{files}", f"/{files}", f"{_ROOT}/schema/assets", "/schema/assets", f"{_ROOT}/playground/0"]
    paths = [f"{folder}/{climb}" for folder in folders for climb in climbs]
    paths += [f"{_ROOT}{_ROOT}/v1/models", f"{_ROOT}x/v1/models", f"{_ROOT}/../v1/models", f"{_ROOT}//v1/models"]
    paths += [f"{_ROOT}%2fv1/models", f"/x{_ROOT}/v1/models", _ROOT, f"{_ROOT}?a", f"{_ROOT}//evil.example/"]
    answers = [(path, _raw(target, "GET", path, "")) for path in paths]
    shown = [path for path, answer in answers if b"root:" in answer.body or b'"data"' in answer.body]
    wrong = [f"{answer.status} {path[:60]}" for path, answer in answers if answer.status >= 500]
    away = [path for path, answer in answers if "evil" in answer.headers.get("location", "").partition("?")[0][:14]]
    yield none_of("paths that show what they must not: " + "; ".join(shown)[:200], len(shown), len(paths))
    yield none_of("answers of 5xx: " + "; ".join(wrong)[:200], len(wrong), len(paths))
    yield none_of("redirects to another site: " + "; ".join(away)[:200], len(away), len(paths))


_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/json", "")


@attack(seconds=15.0)
def pages_of_other_sites(target: Target) -> Iterator[Row]:
    """Have a page of another site send what a browser sends without asking, also with the key that the visitor has."""
    origins = ("https://evil.example", "null", "http://localhost.evil.example", "http://localhost@evil.example", "x")
    own = f"http://localhost:{target.service.port}.evil.example"
    paths = ("/v1/generate", "/v1/files", "/v1/models/echo/unload", "/v1/batches", "/v1/explain", "/v1/conversations")
    body = b'{"prompt":"a","model":"echo"}'
    asked, taken = 0, []
    for origin in (*origins, own):
        for path in paths:
            for kind in _TYPES:
                bearer = f"Authorization: Bearer {target.keys['attacker']}"
                head = [f"Origin: {origin}", bearer, f"Content-Length: {len(body)}", "Connection: close"]
                head += [f"Content-Type: {kind}"] if kind else []
                answer = exchange(
                    target.service.port,
                    request("POST", path, *head, host=f"localhost:{target.service.port}"),
                    body,
                )
                asked += 1
                if answer.status != 403 or "access-control-allow-origin" in answer.headers:
                    taken.append(f"{answer.status} {origin} {path} {kind}")
    yield none_of("requests that were taken: " + "; ".join(taken)[:300], len(taken), asked)
    read = [_raw(target, "GET", "/v1/models", "attacker", f"Origin: {origin}") for origin in origins]
    allowed = [answer for answer in read if "access-control-allow-origin" in answer.headers]
    yield none_of("answers that such a page may read", len(allowed), len(read))


@attack(seconds=15.0)
def odd_heads(target: Target) -> Iterator[Row]:
    """Send each header that the service heeds twice, empty, huge, in letters of other scripts, and as nonsense."""
    names = ["Accept", "Accept-Encoding", "Authorization", "Cache-Control", "Content-Encoding", "Expect", "Forwarded"]
    names += ["Idempotency-Key", "If-None-Match", "OpenAI-Beta", "Origin", "Prefer", "Range", "Transfer-Encoding", "TE"]
    names += ["traceparent", "tracestate", "Upgrade", "X-Api-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"]
    names += ["X-HTTP-Method-Override", "X-Original-URL", "X-Request-Id", "X-Request-Timeout", "anthropic-version"]
    values = ["", " ", "\xe9\xff", "a" * 20_000, '\t,;="', "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "1e400", "-1"]
    values += ["bytes=0-1,0-1", "nan", "chunked, identity", "gzip, gzip", "h2c", "100-continue", "wait=0", "${jndi:x}"]
    heads = [[f"{name}: {value}"] for name in names for value in values] + [[f"{name}: a"] * 2 for name in names]
    body = b'{"prompt":"a","model":"echo","max_new_tokens":1}'
    paths = ("/v1/generate", "/v1/explain", "/v1/embeddings", "/v1/replay/a")
    answers = []
    for number, head in enumerate(heads):
        own = [JSON, f"Content-Length: {len(body)}", f"Authorization: Bearer {target.keys['attacker']}", *head]
        answers.append((head, exchange(target.service.port, request("POST", paths[number % len(paths)], *own), body)))
    wrong = [f"{answer.status} {head[0][:50]}" for head, answer in answers if answer.status in (0, 500, 502)]
    yield none_of("answers of 5xx, or none: " + "; ".join(wrong)[:300], len(wrong), len(answers))
    yield typed([target.post("/v1/generate", {"model": "echo", "prompt": "a"})])
