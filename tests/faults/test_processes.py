"""The service's processes, killed, stopped and told to change, one by one."""

import errno
import os
import signal
import socket
import time

import psutil
import pytest

from tests.support.observe import eventually, is_error, play
from tests.support.processes import descendants, engines, is_alive, worker
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service, total

ACTOR = {
    "ENGINE": "scripted",
    "LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true",
    "LLM_GATEWAY__ENGINES__DEFAULT__HANG_SECONDS": "2",
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES": "2",
}
LONG = {"prompt": play(texts=["tick "], delay=0.02), "ignore_eos": True, "max_new_tokens": 4_000}
LONG |= {"return_full_text": False, "stream": True}
QUICK = {"prompt": play(texts=["right"]), "return_full_text": False}
PATIENCE = 20.0
FILE = """
[generate]
{line}
[engines.default]
plugin = "echo"
"""


@pytest.fixture
def actor():
    with Service(**ACTOR) as service:
        yield service


def begin(service, **body):
    """Begin a long stream; return its connection when it has begun."""
    connection = RawHTTP(service.port).send(post(LONG | body))
    connection.read_until(b"tick")
    return connection


def answers(service, text="right"):
    answer = service.generate(**QUICK)
    return answer.status_code == 200 and answer.json()["generated_text"] == text


def refuses(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def events(service, event):
    return [line for line in service.lines if line.get("event") == event]


def test_an_engine_that_is_killed_takes_nobody_else_with_it(actor):
    [pid] = engines(actor.process.pid)
    with begin(actor) as stream, RawHTTP(actor.port) as waiting, begin(actor):
        waiting.send(post(QUICK))
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        rest = stream.read_until(b'"error"')
        assert b'"code":"engine_restarted"' in rest
        assert b"[DONE]" not in rest
        answer = waiting.answer()
        assert (answer.status, b"right" in answer.body) == (200, True)
    assert engines(actor.process.pid) != [pid]
    told = actor.scrape()
    assert total(told, "llm_gateway_engine_restarts_total", engine="default", reason="exit") == 1
    assert total(told, "llm_gateway_engine_up", engine="default") == 1
    [line] = events(actor, "engine_restart")
    assert (line["engine"], line["reason"], line["level"]) == ("default", "exit", "ERROR")


def test_a_stopped_engine_is_replaced_and_readiness_says_so(actor):
    [pid] = engines(actor.process.pid)
    with begin(actor) as stream:
        os.kill(pid, signal.SIGSTOP)
        actor.wait_for("/readyz", 503)
        assert actor.client.get("/livez").status_code == 200
        assert b"engine_restarted" in stream.read_until(b'"error"')
    actor.wait_for("/readyz")
    assert answers(actor)
    assert not is_alive(pid)
    assert actor.metric("llm_gateway_engine_restarts_total", reason="hang") == 1


def test_an_engine_that_dies_over_and_over_has_failed_and_the_service_says_so_at_once(actor):
    for _ in range(5):
        [pid] = eventually(lambda: engines(actor.process.pid), PATIENCE)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: engines(actor.process.pid) != [pid], PATIENCE)
    actor.wait_for("/readyz", 503)
    eventually(lambda: "failed" in actor.client.get("/v1/health").json()["status"], PATIENCE)
    assert actor.client.get("/livez").status_code == 200
    answer = actor.generate(**QUICK)
    assert is_error(answer, 503, "engine_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "died 5 times" in actor.client.get("/v1/health").json()["detail"]


def test_a_request_that_ends_the_engine_twice_is_not_run_again(actor):
    poison = {"prompt": play(texts=["x"], fault="exit", after=-1)}
    answer = actor.generate(**poison)
    assert is_error(answer, 500, "request_quarantined")
    assert answer.headers["x-should-retry"] == "false"
    eventually(lambda: actor.metric("llm_gateway_engine_restarts_total") == 2, PATIENCE)
    assert is_error(actor.generate(**poison), 500, "request_quarantined")
    assert actor.metric("llm_gateway_engine_restarts_total") == 2
    assert answers(actor)


def test_a_worker_that_is_killed_is_replaced_and_the_model_stays(actor):
    before = engines(actor.process.pid)
    killed = worker(actor.process.pid)
    with begin(actor):
        os.kill(killed, signal.SIGKILL)
    eventually(lambda: worker(actor.process.pid) not in (0, killed), PATIENCE)
    actor.wait_for("/readyz")
    assert answers(actor)
    assert engines(actor.process.pid) == before
    # Nobody goes on to generate for a worker that is gone: both places are free.
    with begin(actor), begin(actor):
        pass


STALLING = ACTOR | {"LLM_GATEWAY__SERVER__HANG_SECONDS": "2"}


def test_a_worker_that_is_stopped_is_replaced_and_the_model_stays():
    with Service(**STALLING) as service:
        before = engines(service.process.pid)
        stopped = worker(service.process.pid)
        with begin(service), begin(service):  # both places are taken
            os.kill(stopped, signal.SIGSTOP)
            begun = time.monotonic()
            eventually(lambda: not is_alive(stopped), PATIENCE)
            assert time.monotonic() - begun > 1.5
        service.wait_for("/readyz")
        assert worker(service.process.pid) not in (0, stopped)
        assert answers(service)
        assert engines(service.process.pid) == before
        # Nobody goes on to generate for a worker that is gone: both places are free.
        with begin(service), begin(service):
            pass
        [line] = eventually(lambda: events(service, "worker_hang"), PATIENCE)
        assert (line["level"], "silent for 2 s" in line["message"]) == ("ERROR", True)
        assert not events(service, "server_restart")


def test_a_worker_whose_loop_is_held_is_dumped_and_replaced():
    block = {"LLM_GATEWAY__ENGINES__OWN__PLUGIN": "scripted", "LLM_GATEWAY__ENGINES__OWN__SETTINGS__MODEL": "own"}
    with Service(**STALLING, **block) as service, RawHTTP(service.port) as asking:
        held = worker(service.process.pid)
        asking.send(post({"model": "own", "prompt": play(fault="block", seconds=60)}))
        eventually(lambda: not is_alive(held), PATIENCE)
        service.wait_for("/readyz")
        assert answers(service)
        eventually(lambda: "Fatal Python error: Aborted" in service.output and "in strike" in service.output, PATIENCE)


def test_a_worker_that_stands_still_for_less_or_with_the_whole_machine_is_left_alone():
    with Service(**STALLING) as service, begin(service) as stream:
        main, own = service.process.pid, worker(service.process.pid)
        os.kill(own, signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(own, signal.SIGCONT)
        stream.read_until(b"tick")
        for _ in range(3):
            for pid in (main, own):
                os.kill(pid, signal.SIGSTOP)
            time.sleep(3.0)
            for pid in (own, main):
                os.kill(pid, signal.SIGCONT)
        time.sleep(2.5)
        assert worker(main) == own
        stream.read_until(b"tick")
        assert not events(service, "worker_hang")


def test_a_server_that_is_killed_is_started_again(actor):
    before = engines(actor.process.pid)
    server = psutil.Process(worker(actor.process.pid)).parent()
    server.kill()
    eventually(lambda: not server.is_running(), PATIENCE)
    actor.wait_for("/readyz")
    assert answers(actor)
    assert engines(actor.process.pid) == before
    eventually(lambda: len(events(actor, "server_restart")) == 1, PATIENCE)


def test_nothing_outlives_the_main_process(actor):
    pids = descendants(actor.process.pid)
    assert len(pids) == 3
    actor.process.kill()
    eventually(lambda: not any(map(is_alive, pids)), PATIENCE)
    eventually(lambda: refuses(actor.port), PATIENCE)  # the last of its threads closes the socket


def test_nothing_outlives_a_regular_end(actor):
    pids = descendants(actor.process.pid)
    with RawHTTP(actor.port).send(post(LONG | {"max_new_tokens": 50})) as stream:
        stream.read_until(b"tick")
        actor.process.send_signal(signal.SIGTERM)
        assert b'"finish_reason"' in stream.read_until(b"[DONE]")
    assert actor.process.wait(PATIENCE) == 0
    assert not any(map(is_alive, pids))
    assert "Traceback" not in actor.output


def test_a_reload_changes_what_can_change_and_says_what_cannot(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(FILE.format(line=""))
    with Service("--config", str(file)) as service:
        long = service.generate(prompt="one two three four")
        file.write_text(
            FILE.format(line="max_length = 6").replace("[gen", "[server]\nbody_seconds = 5\nidle_seconds = 9\n[gen")
        )
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: events(service, "reloaded"), PATIENCE)
        short = service.generate(prompt="one two three four")
        assert long.json()["usage"]["completion_tokens"] == 4
        assert short.json()["usage"]["completion_tokens"] == 2
        [line] = events(service, "reload")
        assert "server.idle_seconds" in line["message"]
        assert service.metric("llm_gateway_requests_total", endpoint="/v1/generate", status="200") == 2


def test_a_reload_that_is_wrong_changes_nothing_and_says_where(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(FILE.format(line=""))
    with Service("--config", str(file)) as service:
        file.write_text(FILE.format(line="max_lenght = 6"))
        service.process.send_signal(signal.SIGHUP)
        [line] = eventually(lambda: events(service, "reload_failed"), PATIENCE)
        assert "gateway.toml" in line["message"]
        assert "max_lenght" in line["message"]
        assert service.generate(prompt="a b").status_code == 200


def test_engines_come_and_go_with_a_reload(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(FILE.format(line=""))
    other = '[engines.other]\nplugin = "echo"\nsettings = { model = "parrot" }\n'
    with Service("--config", str(file)) as service:
        file.write_text(FILE.format(line="") + other)
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: service.generate(prompt="a", model="parrot").status_code == 200, PATIENCE)
        file.write_text(FILE.format(line=""))
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: service.generate(prompt="a", model="parrot").status_code == 404, PATIENCE)
        assert service.generate(prompt="a").status_code == 200


def test_a_worker_that_comes_after_a_reload_goes_by_it(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(FILE.format(line=""))
    with Service("--config", str(file)) as service:
        file.write_text(FILE.format(line="max_length = 6"))
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: events(service, "reloaded"), PATIENCE)
        killed = worker(service.process.pid)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: worker(service.process.pid) not in (0, killed), PATIENCE)
        service.wait_for("/readyz")
        eventually(
            lambda: service.generate(prompt="one two three four").json()["usage"]["completion_tokens"] == 2, PATIENCE
        )
