"""From SIGTERM to the end: who asks is told why, who watches sees it, what runs goes on, and nothing is left over."""

import errno
import os
import signal
import socket
import time

import httpx
import pytest

from tests.support.observe import eventually, is_error, play
from tests.support.package import install
from tests.support.processes import descendants, is_alive, worker
from tests.support.rawhttp import RawHTTP, post, request
from tests.support.service import Service, total

DELAY = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY"
DRAIN = "LLM_GATEWAY__SERVER__DRAIN_SECONDS"
REPLAY = "LLM_GATEWAY__REPLAY__REQUESTS"
NOTICE = "LLM_GATEWAY__SERVER__NOTICE_SECONDS"
ENDLESS = {"prompt": "on and on ", "ignore_eos": True, "stream": True, "max_new_tokens": 4_000}
PATIENCE = 20.0
TALKATIVE = """
import os
from msgspec import Struct
from gateway.engine import Plugin
from gateway_echo import EchoEngine, Settings

class Talkative(EchoEngine):
    async def __aenter__(self):
        print("a library has something to say")
        os.write(2, b"thread panicked\\n")
        return await super().__aenter__()

plugin = Plugin(Settings, Talkative)
"""
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
REFUSED = {
    "/v1/generate": {"prompt": "hi"},
    "/v1/completions": {"model": "echo", "prompt": "hi"},
    "/v1/chat/completions": CHAT,
    "/v1/messages": CHAT,
}


def begin(service, **body):
    """Begin a stream; return its connection when it has begun."""
    connection = RawHTTP(service.port).send(post(ENDLESS | body))
    connection.read_until(b"data: ")
    return connection


def stop(service, number=signal.SIGTERM):
    """Send the signal, and wait until the service has begun to drain."""
    service.process.send_signal(number)
    eventually(lambda: service.client.get("/readyz").status_code == 503, PATIENCE)


def refuses(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@pytest.fixture(scope="module")
def draining():
    """A service that was told to end while a stream runs, and the stream's connection."""
    with Service(**{DELAY: "0.02", DRAIN: "120", REPLAY: "8"}) as service, begin(service) as stream:
        service.recorded = service.generate(prompt="hi", max_new_tokens=2, temperature=0).headers["x-request-id"]
        stop(service)
        yield service, stream
        service.process.kill()


def test_probes_say_that_it_drains_and_that_it_lives(draining):
    service, _ = draining
    assert service.client.get("/readyz").status_code == 503
    assert service.client.get("/v1/health").json()["status"] == "draining"
    assert service.client.get("/livez").status_code == 200


@pytest.mark.parametrize("path", REFUSED)
def test_a_new_request_is_refused_with_the_reason_and_its_connection_closed(draining, path):
    service, _ = draining
    with RawHTTP(service.port) as connection:
        answer = connection.send(post(REFUSED[path], path=path)).answer()
        assert answer.status == 503
        assert b"going down" in answer.body
        assert answer.headers["connection"] == "close"
        assert int(answer.headers["retry-after"]) >= 1
        assert connection.is_closed()


def test_a_new_request_of_our_own_dialect_names_the_code(draining):
    service, _ = draining
    assert is_error(service.generate(prompt="hi"), 503, "draining")


def test_no_request_is_run_again(draining):
    service, _ = draining
    assert is_error(service.client.post(f"/v1/replay/{service.recorded}"), 503, "draining")


def test_no_connection_is_kept_whatever_it_asks(draining):
    service, _ = draining
    for path in ("/livez", "/readyz", "/metrics", "/v1/models", "/nowhere"):
        with RawHTTP(service.port) as connection:
            assert connection.send(request("GET", path)).answer().headers["connection"] == "close"
            assert connection.is_closed()


def test_the_metrics_are_scraped_once_more(draining):
    service, _ = draining
    assert total(service.scrape(), "llm_gateway_active_requests") == 1


def test_a_connection_that_was_open_is_answered_too(tmp_path):
    with Service(**{DELAY: "0.02"}) as service, RawHTTP(service.port) as kept, begin(service):
        assert "connection" not in kept.send(request("GET", "/livez")).answer().headers
        stop(service)
        answer = kept.send(post({"prompt": "hi"})).answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        service.process.kill()


def test_what_runs_can_be_listed_and_cancelled_and_then_the_service_ends():
    with Service(**{DELAY: "0.02", DRAIN: "120"}) as service, begin(service) as stream:
        stop(service)
        [running] = service.client.get("/v1/requests").json()["data"]
        assert service.client.delete(f"/v1/requests/{running['id']}").status_code in (200, 202, 204)
        assert b'"code":"cancelled"' in stream.read_until(b"error")
        assert service.process.wait(PATIENCE) == 0
        assert refuses(service.port)


def test_the_port_is_closed_when_the_last_request_has_ended():
    with Service(**{DELAY: "0.02", DRAIN: "120"}) as service, begin(service, max_new_tokens=60) as stream:
        stop(service)
        assert b"[DONE]" in stream.read_until(b"[DONE]")
        assert service.process.wait(PATIENCE) == 0
        assert refuses(service.port)


def test_in_the_notice_probes_say_that_it_goes_down_and_requests_are_answered():
    with Service(**{NOTICE: "3"}) as service:
        began = time.monotonic()
        stop(service)
        with RawHTTP(service.port) as connection:
            answer = connection.send(post({"prompt": "hi"})).answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")  # the next is for another replica
        assert service.client.get("/v1/health").json()["status"] == "draining"
        assert service.client.get("/livez").status_code == 200
        assert service.process.wait(PATIENCE) == 0
        assert time.monotonic() - began > 2.5
        assert refuses(service.port)


def test_after_the_notice_new_requests_are_refused_and_what_runs_has_its_time():
    with Service(**{DELAY: "0.02", DRAIN: "2", NOTICE: "1"}) as service, begin(service) as stream:
        stop(service)
        eventually(lambda: service.generate(prompt="hi").status_code == 503, PATIENCE)
        assert is_error(service.generate(prompt="hi"), 503, "draining")
        assert b'"code":"draining"' in stream.read_until(b"error")
        assert service.process.wait(PATIENCE) == 0


def test_who_waits_for_a_place_is_told_when_the_time_is_over_and_is_not_begun():
    one = {"ENGINE": "scripted", "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES": "1", DRAIN: "0.5"}
    slow = {"prompt": play(texts=["tick "], delay=0.02), "return_full_text": False}
    with Service(**one) as service, begin(service, **slow) as stream, RawHTTP(service.port) as waiting:
        waiting.send(post(ENDLESS | slow | {"stream": False}))
        eventually(lambda: total(service.scrape(), "llm_gateway_queue_depth") == 1, PATIENCE)
        stop(service)
        assert b'"code":"draining"' in stream.read_until(b"error")
        answer = waiting.answer()
        assert (answer.status, answer.error["code"]) == (503, "draining")
        assert service.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_terminals_signal_to_the_whole_group_is_for_the_main_process(number):
    with Service(**{DELAY: "0.02", DRAIN: "120"}, leads=True) as service, begin(service) as stream:
        os.killpg(service.process.pid, number)
        if number == signal.SIGINT:
            eventually(lambda: service.client.get("/readyz").status_code == 503, PATIENCE)
        else:
            eventually(lambda: any(line.get("event") == "reloaded" for line in service.lines), PATIENCE)
        time.sleep(0.5)
        assert service.client.get("/livez").status_code == 200
        stream.read_until(b"data: ")
        service.process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_notice_at_once(number):
    with Service(**{NOTICE: "60"}) as service:
        pids = descendants(service.process.pid)
        stop(service, number)
        time.sleep(1.1)  # a repeat within a second is the same wish
        service.process.send_signal(number)
        assert service.process.wait(5) == 128 + number
        eventually(lambda: not any(map(is_alive, pids)), PATIENCE)


def test_a_worker_that_is_lost_in_the_notice_does_not_come_back_as_ready():
    with Service(**{NOTICE: "6"}) as service:
        stop(service)
        os.kill(worker(service.process.pid), signal.SIGKILL)
        seen = set()
        while service.process.poll() is None:
            try:
                seen.add(service.client.get("/readyz").status_code)
            except httpx.TransportError:
                time.sleep(0.02)
        assert 200 not in seen
        assert service.process.returncode == 0


def printed(service):
    return [line["message"] for line in service.lines if line.get("event") == "server_output"]


def foreign(service):
    """The lines among those of the log that are none; the greeting comes first."""
    _, _, log = service.output.partition("chat --url")
    return [line for line in log.splitlines()[1:] if line and not line.startswith("{")]


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_after_clients_have_left_the_service_ends_in_time_and_says_nothing_strange(leave):
    with Service(**{DELAY: "0.02", "LOG_LEVEL": "WARNING"}) as service:
        for _ in range(3):
            with begin(service) as stream:
                if leave == "reset":
                    stream.reset()
        eventually(lambda: total(service.scrape(), "llm_gateway_active_requests") == 0, PATIENCE)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0
        assert foreign(service) == []
        assert "refused to gracefully stop" not in service.output


def test_what_a_library_prints_is_a_line_of_the_log():
    with Service() as service:
        os.kill(worker(service.process.pid), signal.SIGKILL)
        [line] = eventually(
            lambda: [line for line in service.lines if "Unexpected exit from worker" in line["message"]], PATIENCE
        )
        assert (line["event"], line["level"]) == ("server_output", "ERROR")
        service.wait_for("/readyz")
        assert foreign(service) == []


def test_what_an_engine_prints_in_the_worker_is_a_line_of_the_log(tmp_path):
    points = {"talkative": "talkative_engine:plugin"}
    install(tmp_path, "talkative_engine", TALKATIVE, "llm_gateway.engines", points)
    with Service(ENGINE="talkative", PYTHONPATH=str(tmp_path)) as service:
        eventually(lambda: len(printed(service)) == 2, PATIENCE)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
        assert printed(service) == ["a library has something to say", "thread panicked"]
        assert foreign(service) == []
