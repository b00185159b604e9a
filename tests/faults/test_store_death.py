"""Answers that die with their worker, or with the whole service, say so afterwards."""

import json
import os
import signal
from contextlib import contextmanager

import httpx
import pytest

from tests.support.observe import eventually, is_error, play
from tests.support.processes import worker
from tests.support.service import Service

PATIENCE = 60.0
LONG = {"model": "scripted", "input": play(texts=["tick "] * 2_000, delay=0.02), "stream": True}
WENT_DOWN = "the service went down before the answer was finished"


def start(path):
    actor = {"LLM_GATEWAY__ENGINES__ACTOR__PLUGIN": "scripted", "LLM_GATEWAY__STORE__FILE": str(path)}
    return Service(LOG_LEVEL="DEBUG", leads=True, **actor)


@contextmanager
def streaming(service, **body):
    """Open a stream, and give its id with the events that come."""
    with service.client.stream("POST", "/v1/responses", json=LONG | body) as answer:
        assert answer.status_code == 200
        told = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        first = next(told)
        assert first["type"] == "response.created"
        yield first["response"]["id"], told


def read(service, identity, **query):
    return service.client.get(f"/v1/responses/{identity}", params=query)


def is_failed(answer):
    failed = answer.json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert WENT_DOWN in failed["error"]["message"]
    return failed


def resumed(service, identity, after):
    """Resume a stream, and return its events."""
    told = read(service, identity, stream=True, starting_after=after).text
    frames = [frame.split("\n") for frame in told.split("\n\n") if frame]
    assert all(len(frame) == 2 for frame in frames)
    return [json.loads(data.removeprefix("data: ")) for _, data in frames]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    with start(tmp_path_factory.mktemp("kept") / "store.db") as service:
        yield service


def known(service, identity):
    """Wait until a stream is stored, which is before its end if it takes long."""
    return eventually(lambda: (found := read(service, identity)).status_code == 200 and found, PATIENCE)


def test_a_stream_that_is_deleted_under_way_stays_away(kept):
    with streaming(kept, max_output_tokens=90) as (identity, told):
        known(kept, identity)
        assert kept.client.delete(f"/v1/responses/{identity}").json()["deleted"] is True
        assert [event["type"] for event in told][-1] == "response.incomplete"
    assert is_error(read(kept, identity), 404, "not_found", "response_id")


def test_a_stream_that_is_known_early_is_whole_in_the_end(kept):
    with streaming(kept, max_output_tokens=90) as (identity, told):
        known(kept, identity)
        *_, last = told
    assert read(kept, identity).json() == last["response"]
    assert len(last["response"]["output"][0]["content"][0]["text"]) == 450


def test_a_stream_that_died_with_its_worker_is_failed(kept):
    with streaming(kept) as (identity, told):
        state = known(kept, identity).json()
        assert (state["status"], state["background"]) == ("in_progress", False)
        cancelled = kept.client.post(f"/v1/responses/{identity}/cancel")
        assert is_error(cancelled, 400, "invalid_value", "response_id")
        going_on = kept.client.post("/v1/responses", json={"input": "b", "previous_response_id": identity})
        assert is_error(going_on, 400, "invalid_value", "previous_response_id")
        os.kill(killed := worker(kept.process.pid), signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(told)
    eventually(lambda: worker(kept.process.pid) not in (0, killed), PATIENCE)
    kept.wait_for("/readyz")
    failed = is_failed(read(kept, identity))
    (item,) = failed["output"]
    assert (item["status"], item["content"][0]["text"][:5]) == ("incomplete", "tick ")
    assert read(kept, identity).json() == failed
    items = kept.client.get(f"/v1/responses/{identity}/input_items").json()["data"]
    assert items[0]["content"][0]["text"] == LONG["input"]


def test_answers_in_the_background_that_died_with_the_service_are_failed(tmp_path):
    """No process is left of it: the file is all that the next service knows."""
    path = tmp_path / "store.db"
    with start(path) as service:
        made = service.client.post("/v1/responses", json=LONG | {"background": True, "stream": False}).json()["id"]
        with streaming(service, background=True) as (identity, told):
            numbers = [next(told)["sequence_number"] for _ in range(8)]
        eventually(lambda: read(service, made).json()["status"] == "in_progress", PATIENCE)
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait(PATIENCE)
    with start(path) as service:
        is_failed(read(service, made))
        failed = is_failed(read(service, identity))
        for after in (0, 1, numbers[-1], 10_000):
            *_, last = resumed(service, identity, after)
            assert (last["type"], last["response"]) == ("response.failed", failed)
            assert last["sequence_number"] > after
        assert [event["type"] for event in resumed(service, identity, numbers[-1])] == ["response.failed"]
        assert service.client.post(f"/v1/responses/{identity}/cancel").json() == failed
