"""What may stand in a log, and what never."""

import json
import re

import pytest

from tests.support.observe import eventually, logged, play
from tests.support.rawhttp import RawHTTP, post, request

SECRET = "canary-7f3a9c-do-not-tell"
HOSTILE = {
    "line": "/a%0d%0a{%22event%22:%22request%22}",
    "escape": "/a%1b[2J%1b[31m",
    "separator": "/a%e2%80%a8b%e2%80%a9c%c2%85d",
    "direction": "/a%e2%80%ae%e2%81%a6txt",
    "bytes": "/a%ff%fe%00",
    "long": "/" + "a" * 20_000,
}


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
def test_a_path_makes_one_line(edge, path):
    begin = len(edge.output)
    with RawHTTP(edge.port) as connection:
        request_id = connection.send(request("GET", path)).answer().headers["x-request-id"]
    assert logged(edge, request_id)["status"] == 404
    new = edge.output[begin:]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\u2066]", new)
    assert all(json.loads(line)["level"] for line in new.split("\n") if line)
    assert len(new) < 2_000


@pytest.mark.parametrize("text", ["a\r\nb", "\x1b[31m", "a\u2028b", 'a","level":"ERROR', "\u202etxt.exe"])
def test_a_model_makes_one_line(edge, text):
    begin = len(edge.output)
    request_id = edge.generate(prompt="a", model=text).headers["x-request-id"]
    assert logged(edge, request_id)["code"] == "model_not_found"
    new = [json.loads(line) for line in edge.output[begin:].split("\n") if line]
    assert [line["status"] for line in new if line["request_id"] == request_id] == [404]
    assert {line["level"] for line in new} <= {"INFO", "DEBUG"}


def test_an_answers_id_is_ours_whatever_the_client_says(edge):
    for name in ("x-request-id", "X-Request-ID", "x-correlation-id"):
        answer = edge.client.get("/livez", headers={name: "forged-1", "user-agent": 'a" } { "b'})
        assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", answer.headers["x-request-id"])
        assert "forged" not in json.dumps(logged(edge, answer.headers["x-request-id"]))


def test_every_answer_has_an_id_of_its_own(edge):
    answers = [edge.client.get("/livez") for _ in range(50)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 50
    eventually(lambda: ids <= {line["request_id"] for line in edge.requests()})
    body = edge.generate(prompt="a")
    assert body.json()["id"] == body.headers["x-request-id"]


def tell(service) -> list[str]:
    """Put a secret wherever a request has room for it, and return all that was answered with an error."""
    script = play(texts=[SECRET], fault="bug", after=1, message="nothing to see")
    answers = [
        service.generate(prompt=f"{SECRET} is the word"),
        service.generate(messages=[{"role": "user", "content": SECRET}]),
        service.generate(prompt=SECRET, stop=[SECRET]),
        service.generate(prompt=SECRET, temperature=5),
        service.generate(prompt=f"{SECRET} " * 5_000),
        service.generate(prompt=SECRET, messages=[{"role": "user", "content": SECRET}]),
        service.generate(messages=[{"role": SECRET, "content": SECRET}]),
        service.generate(messages=[SECRET]),
        service.generate(prompt=[SECRET]),
        service.generate(model="scripted", prompt=script),
        service.generate(model="scripted", prompt=script, stream=True),
        service.client.post(
            "/v1/generate", content=f'{{"prompt":"{SECRET}', headers={"content-type": "application/json"}
        ),
        service.client.post("/v1/generate", content=SECRET, headers={"content-type": "application/json"}),
        service.client.post("/v1/generate", content=SECRET),
        service.client.get("/livez", params={"key": SECRET}, headers={"authorization": f"Bearer {SECRET}"}),
    ]
    with RawHTTP(service.port) as leaving:
        leaving.send(post({"model": "scripted", "prompt": play(texts=[SECRET], delay=0.2), "stream": True}))
        leaving.read_until(b"data: ")
    eventually(lambda: service.client.get("/probe").json()["running"] == 0)
    logged(service, service.client.get("/livez").headers["x-request-id"])
    return [answer.text for answer in answers if answer.status_code >= 400]


def test_no_prompt_and_no_key_is_in_any_log_metric_or_error(running_edge):
    errors = tell(running_edge)
    assert len(errors) >= 10
    assert SECRET not in "".join(errors)
    assert SECRET not in running_edge.output
    assert SECRET not in running_edge.client.get("/metrics").text
    assert "Traceback" in running_edge.output
