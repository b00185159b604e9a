"""What the service keeps for callers, in as many small pieces as it takes, and bodies about other bodies."""

import json
from collections.abc import Callable, Iterator

import httpx

from tests.attack.questions import hostile_bodies
from tests.attack.table import attack
from tests.attack.target import Target
from tests.attack.transport import typed
from tests.chaos.row import Row, at_most, none_of
from tests.support.observe import eventually

_MIB = 2**20
_STORED_MIB, _RECORDED_MIB = 4, 4
_STORE = {"LLM_GATEWAY__STORE__MAX_BYTES": str(_STORED_MIB * _MIB)}
_RECORDS = {"LLM_GATEWAY__REPLAY__REQUESTS": "100000", "LLM_GATEWAY__REPLAY__MAX_BYTES": str(_RECORDED_MIB * _MIB)}
_BATCH = {"endpoint": "/v1/completions", "completion_window": "24h"}


def _worth(target: Target, ask: Callable[[int], object], bound: float) -> Iterator[Row]:
    """Ask until the time is over; say what was rude, and what the worker weighs more by once nothing runs."""
    before, answers = target.holdings()["MiB"], []
    while target.goes_on:
        answers += target.many(60, ask, 6)
    yield typed(answers)
    yield at_most("worker's memory, more than before", target.holdings()["MiB"] - before, bound, " MiB")


@attack(seconds=20.0, **_STORE, **_RECORDS)
def small_answers_to_keep(target: Target) -> Iterator[Row]:
    """Have answers of one word stored and recorded, as many as there is time for."""
    bodies: list[tuple[str, dict[str, object]]] = [
        ("/v1/responses", {"model": "echo", "input": "a"}),
        ("/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "a"}], "store": True}),
        ("/v1/conversations", {}),
        ("/v1/conversations", {"metadata": {f"k{number}": "" for number in range(16)}}),
    ]
    yield from _worth(
        target, lambda number: target.post(*bodies[number % len(bodies)]), 2.5 * (_STORED_MIB + _RECORDED_MIB)
    )


@attack(seconds=15.0)
def small_files(target: Target) -> Iterator[Row]:
    """Send files of one byte, more than one key may have, and more than there are places for on the disk."""
    head = {"authorization": f"Bearer {target.keys['attacker']}"}

    def upload(_: int) -> httpx.Response:
        sent = {"file": ("a", b"a")}
        return target.send("POST", "/v1/files", headers=head, files=sent, data={"purpose": "batch"})

    answers = []
    while target.goes_on and len(answers) < 1_200:
        answers += target.many(60, upload, 6)
    yield typed(answers)

    def drop(file: str) -> int:
        return target.send("DELETE", f"/v1/files/{file}", headers=head).status_code

    listed = target.send("GET", "/v1/files?limit=1000", headers=head).json()["data"]
    kept = [code for code in target.many(len(listed), lambda number: drop(listed[number]["id"])) if code != 200]
    yield none_of("files that could not be deleted", len(kept), len(listed))


def _lines() -> dict[str, bytes]:
    """Write files of lines that hardly are any; all have less than the megabyte that the disk here has."""
    asked = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "echo", "prompt": "a"}}
    urls = ("/v1/replay/a", "/v1/models/echo/unload", "http://localhost/v1/completions")
    deep = b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    return {
        "line ends": b"\n" * 500_000,
        "no end": b"a" * 500_000,
        "deep": deep,
        "null bytes": b"\0" * 500_000,
        "no UTF-8": b'{"custom_id":"\xff"}\n' * 1_000,
        "one id": (json.dumps(asked) + "\n").encode() * 4_000,
        "other routes": "\n".join(json.dumps(asked | {"url": url}) for url in urls).encode(),
        "too many": b"{}\n" * 60_000,
        "a long id": json.dumps(asked | {"custom_id": "a" * 500_000}).encode(),
        "another method": json.dumps(asked | {"method": "DELETE"}).encode(),
    }


@attack(seconds=25.0)
def batches_of_nonsense(target: Target) -> Iterator[Row]:
    """Have files read as batches whose lines are nothing, too many, too long, or for other routes: each fails."""
    head, others = {"authorization": f"Bearer {target.keys['attacker']}"}, []
    lines = _lines()
    for name, content in lines.items():
        sent = {"file": (name, content)}
        file = target.send("POST", "/v1/files", headers=head, files=sent, data={"purpose": "batch"}).json()["id"]
        batch = target.post("/v1/batches", _BATCH | {"input_file_id": file}).json()["id"]

        def state(batch: str = batch) -> str:
            return str(target.send("GET", f"/v1/batches/{batch}", headers=head).json()["status"])

        eventually(lambda state=state: state() != "validating", 30)
        if state() != "failed":
            others.append(f"{name}: {state()}")
            target.post(f"/v1/batches/{batch}/cancel", {})
        target.send("DELETE", f"/v1/files/{file}", headers=head)
    yield none_of("batches that did not fail: " + "; ".join(others), len(others), len(lines))


@attack(seconds=16.0)
def explanations_of_anything(target: Target) -> Iterator[Row]:
    """Have explained what is huge, nested, of other types, or an explanation itself."""
    urls = ["/v1/generate", "/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"]
    urls += ["/v1/embeddings", "/v1/rerank", "/v1/score", "/v1/classify", "/v1/explain", "/v1/replay/a"]
    urls += ["/v1/models/echo/unload", "/", ""]
    nested = b'{"model":"tiny","prompt":"a"}'
    for _ in range(500):
        nested = b'{"url":"/v1/explain","body":%b}' % nested
    odd = [b"null", b"[]", b'""', b"0", b"{}", b'{"url":[]}', b'{"url":null,"body":null}', b'{"url":"/v1/generate"}']
    odd += [b'{"url":"/v1/generate","body":%b}' % each for each in (b"null", b"[]", b'"{}"', b"1e999", b"NaN", b"\xff")]
    huge = [body for body in hostile_bodies().values() if len(body) < 4 * _MIB - 100]

    def ask(number: int) -> httpx.Response:
        if number % 2:
            return target.post("/v1/explain", [nested, *odd][number // 2 % (len(odd) + 1)])
        url = urls[number // 2 % len(urls)]
        return target.post("/v1/explain", b'{"url":"%b","body":%b}' % (url.encode(), target.chance.choice(huge)))

    answers = target.many(24, ask, 4)
    while target.goes_on:
        answers += target.many(24, ask, 4)
    yield typed(answers)


@attack(seconds=10.0, LLM_GATEWAY__TELEMETRY__ALIASES='["vllm"]')
def names_that_are_no_labels(target: Target) -> Iterator[Row]:
    """Ask for models, routes and methods of names that are never the same: no series comes of them."""
    paths = (
        "/v1/generate",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/v1/classify",
        "/v1/explain",
        "/v1/completions",
    )

    def ask(number: int) -> httpx.Response:
        name = f"m{target.chance.random()}"
        if number % 4 == 0:
            return target.post(f"/v1/{name}", {})
        if number % 4 == 1:
            return target.post(f"/v1/models/{name}/load", {})
        body = {
            "model": name,
            "prompt": name,
            "input": name,
            "query": "a",
            "documents": ["a"],
            "text_1": "a",
            "text_2": "a",
        }
        return target.post(paths[number % len(paths)], body)

    def series() -> int:
        head = {"authorization": f"Bearer {target.keys['neighbour']}"}
        return sum(line[:1] not in ("", "#") for line in target.send("GET", "/metrics", headers=head).text.splitlines())

    target.many(100, ask)
    before, answers = series(), []
    while target.goes_on:
        answers += target.many(100, ask)
    yield typed(answers)
    yield at_most("series, more than after the first hundred", series() - before, 60, "")
