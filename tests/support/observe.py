"""What tests watch a service by: its log, its places, and whether it is as it was before."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.rawhttp import RawAnswer
from tests.support.service import Service

T = TypeVar("T")

CANARY = "the canary sings"
_FDS = 2


def eventually(look: Callable[[], T], seconds: float = 5.0) -> T:
    """Look until there is something to see; return it."""
    until = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds} s; the last was {seen!r}")
        time.sleep(0.01)
    return seen


def logged(service: Service, request_id: str) -> dict:
    """Wait for the one line of a request."""
    return eventually(lambda: _lines(service, request_id))[0]


def is_error(answer: httpx.Response, status: int, code: str, param: str | None = None) -> bool:
    """Hold an answer against the one shape that every error has."""
    told = answer.json()
    error = told.pop("error")
    # Where clients of Jina and Cohere look for the reason, it stands once more.
    assert told == (dict.fromkeys(("detail", "message"), error["message"]) if "rerank" in answer.url.path else {})
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text[:500]
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers["x-request-id"]) == 26
    return True


def scrape(service: Service) -> dict[str, float]:
    """Return the samples of a rendering that nobody has seen yet, by their names and labels as they are written."""
    lines = [line for line in service.scrape().split("\n") if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def is_problem(answer: RawAnswer, status: int, code: str) -> bool:
    """Hold a raw answer against the one shape that every error has."""
    assert (answer.status, answer.error["code"]) == (status, code)
    assert set(answer.error) == {"message", "type", "param", "code"}
    assert len(answer.headers["x-request-id"]) == 26
    return True


def post_json(service: Service, body: bytes | str) -> httpx.Response:
    """Post a body to `/v1/generate` as it is, saying that it is JSON."""
    return service.client.post("/v1/generate", content=body, headers={"content-type": "application/json"})


def play(**script) -> str:
    """Write a prompt that makes the scripted engine follow this script."""
    return json.dumps({"script": script}, separators=(",", ":"))


@contextmanager
def quiescent(service: Service) -> Iterator[Service]:
    """Assert that what happens inside leaves nothing behind: the service is as before, and answers rightly."""
    service.client.get("/metrics")
    before = _probe(service)
    begin = len(service.output)
    seen: list[str] = []
    service.client.event_hooks["response"] = [lambda answer: seen.append(answer.headers.get("x-request-id", ""))]
    yield service
    eventually(lambda: _is_back(_probe(service), before) or None)
    assert service.generate(prompt=CANARY).json()["generated_text"] == CANARY * 2
    _check_metrics(service.client.get("/metrics").text)
    service.client.event_hooks["response"] = []
    logged(service, seen[-1])
    _check_log(service.output[begin:], seen)


_sound: set[str] = set()


def _check_metrics(text: str) -> None:
    """Every line of a rendering can be read: by its client's parser, once for each line that is new but for its value.

    To parse all of it after each test takes longer than most tests do.
    """
    comments, samples = set(), set()
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            comments.add(line)
        else:
            name, _, value = line.rpartition(" ")
            samples.add(name)
            float(value)
    assert samples
    if not comments | samples <= _sound:
        assert list(text_string_to_metric_families(text))
        _sound.update(comments, samples)


def _check_log(text: str, seen: list[str]) -> None:
    """Every line is JSON, no line is a traceback, and every request that was answered has exactly one."""
    assert "Traceback" not in text, text
    lines = [json.loads(line) for line in text.split("\n") if line]
    ids = [line["request_id"] for line in lines if line.get("event") == "request"]
    assert len(ids) == len(set(ids))
    assert set(seen) - set(ids) == set()


def _lines(service: Service, request_id: str) -> list[dict]:
    # Only what names the request is parsed: a log may be long, and this is asked again and again.
    told = (json.loads(line) for line in service.output.split("\n") if request_id in line)
    return [line for line in told if line.get("event") == "request"]


def _probe(service: Service) -> dict[str, int]:
    return service.client.get("/probe").json()


def _is_back(now: dict[str, int], before: dict[str, int]) -> bool:
    same = all(now[name] <= before[name] for name in ("running", "tasks", "threads"))
    return same and now["fds"] <= before["fds"] + _FDS
