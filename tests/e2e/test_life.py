"""The service's life: start, readiness, load and unload, drain, and every way to end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest

from tests.support.observe import eventually
from tests.support.processes import worker
from tests.support.service import Service, total
from tests.support.sse import frames

DELAY = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY"
DRAIN = "LLM_GATEWAY__SERVER__DRAIN_SECONDS"
READINESS = ("/readyz", "/health", "/ping")
RUN_ON = {"prompt": "on and on ", "ignore_eos": True, "stream": True}


def run(*arguments, **environment):
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Reader(threading.Thread):
    """Reads a stream in the background; keeps its frames, and what broke it."""

    def __init__(self, service, **body):
        super().__init__(daemon=True)
        self.service, self.body = service, RUN_ON | body
        self.frames, self.error = [], None
        self.started = threading.Event()
        self.start()

    def run(self):
        try:
            with httpx.stream("POST", f"{self.service.url}/v1/generate", json=self.body, timeout=60) as answer:
                for frame in frames(answer.iter_text()):
                    self.frames.append(frame)
                    self.started.set()
        except httpx.HTTPError as error:
            self.error = error

    def wait(self):
        assert self.started.wait(20)
        return self


def test_health_says_what_runs(service):
    health = service.client.get("/v1/health").json()
    assert health["status"] == "ready"
    assert (health["model"], health["engine"], health["loaded"], health["device"]) == ("echo", "echo", True, "cpu")
    assert health["version"]
    assert health["uptime"] > 0
    assert service.client.get("/livez").json() == {"status": "alive"}
    for path in READINESS:
        assert service.client.get(path).json() == {"status": "ready"}


def test_models_are_listed_in_openais_shape(service):
    models = service.client.get("/v1/models").json()
    assert models["object"] == "list"
    assert {"id": "echo", "object": "model", "owned_by": "llm-gateway"}.items() <= models["data"][0].items()


def test_a_model_is_unloaded_and_loaded_again():
    with Service() as service:
        unloaded = service.client.post("/v1/models/echo/unload")
        assert (unloaded.status_code, unloaded.json()["loaded"]) == (200, False)
        refused = service.generate(prompt="a b c")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "engine_unavailable"
        assert 1 <= int(refused.headers["retry-after"]) <= 6
        assert {service.client.get(path).status_code for path in READINESS} == {503}
        assert service.client.get("/v1/health").json()["status"] == "unloaded"
        told = service.scrape()
        assert total(told, "llm_gateway_engine_up", engine="default") == 0
        assert total(told, "llm_gateway_model_info") == 0
        assert service.client.get("/v1/models").json()["data"][0]["loaded"] is False
        loaded = service.client.post("/v1/models/echo/load")
        assert (loaded.status_code, loaded.json()["loaded"]) == (200, True)
        assert service.generate(prompt="a b c").status_code == 200
        assert service.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("change", ["load", "unload"])
def test_a_model_that_nobody_serves_is_neither_loaded_nor_unloaded(service, change):
    answer = service.client.post(f"/v1/models/nope/{change}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_sigterm_lets_streams_finish_and_takes_nothing_new():
    with Service(**{DELAY: "0.02"}) as service:
        reader = Reader(service, max_new_tokens=30).wait()
        service.process.send_signal(signal.SIGTERM)
        reader.join(20)
        assert reader.frames[-1] == "[DONE]"
        assert reader.frames[-2]["usage"]["completion_tokens"] == 30
        assert service.process.wait(20) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", service.port), 1)


def test_a_stream_that_outlasts_the_drain_ends_with_an_error_frame():
    with Service(**{DELAY: "0.05", DRAIN: "0.5"}) as service:
        reader = Reader(service).wait()
        service.process.send_signal(signal.SIGTERM)
        reader.join(20)
        assert reader.error is None
        assert reader.frames[-1]["error"]["code"] == "draining"
        assert "[DONE]" not in reader.frames
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_repeat_within_a_second_is_ignored_and_a_later_one_ends_at_once(number):
    with Service(**{DELAY: "0.05", DRAIN: "60"}) as service:
        reader = Reader(service).wait()
        service.process.send_signal(number)
        time.sleep(0.2)
        service.process.send_signal(number)
        time.sleep(0.5)
        assert service.process.poll() is None
        assert reader.is_alive()
        time.sleep(0.6)
        service.process.send_signal(number)
        assert service.process.wait(10) == 128 + number
        reader.join(10)
        assert "[DONE]" not in reader.frames


@pytest.fixture(scope="module")
def half():
    """A service with an engine that serves, and one in a process of its own that can never be loaded."""
    broken = {
        "LLM_GATEWAY__ENGINES__BROKEN__PLUGIN": "scripted",
        "LLM_GATEWAY__ENGINES__BROKEN__ISOLATED": "true",
        "LLM_GATEWAY__ENGINES__BROKEN__SETTINGS__LOAD_FAILURE": "there is no folder ./no-such-folder",
    }
    with Service(**broken) as service:
        yield service


def test_an_engine_that_cannot_load_is_not_worth_another_try(half):
    answer = half.client.post("/v1/models/broken/load")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "load_failed")
    assert answer.headers["x-should-retry"] == "false"


def test_where_another_engine_serves_health_says_which_failed_and_why(half):
    health = half.client.get("/v1/health").json()
    assert health["status"] == "ready"
    assert "broken" in health["detail"]
    assert "no-such-folder" in health["detail"]
    assert [engine["status"] for engine in health["engines"]] == ["ready", "failed"]
    assert half.generate(prompt="a b c").status_code == 200
    assert half.generate(prompt="a b c", model="broken").status_code == 503


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run("serve", ENGINE="echo", PORT=port)
    assert ended.returncode == 2
    assert ended.stderr == f"llm-gateway: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.fixture(scope="module")
def spare():
    """A service without metrics and documentation, and with a short default; none of the three touches another."""
    with Service(METRICS_ENABLED="false", LLM_GATEWAY__SERVER__DOCS="false", MAX_LENGTH="5") as service:
        yield service


def test_metrics_can_be_turned_off(spare):
    for path in ("/metrics", "/v1/metrics"):
        assert spare.client.get(path).status_code == 404


def test_the_documentation_can_be_turned_off(spare):
    for path in ("/schema", "/schema/openapi.json", "/docs", "/redoc"):
        answer = spare.client.get(path)
        assert answer.status_code == 404
        assert "/schema" not in answer.json()["error"]["message"]


def test_defaults_of_generate_are_defaults_and_no_caps(spare):
    assert spare.generate(prompt="a b c ", ignore_eos=True).json()["usage"]["total_tokens"] == 5
    longer = spare.generate(prompt="a b c ", ignore_eos=True, max_new_tokens=9)
    assert longer.json()["usage"]["completion_tokens"] == 9
    assert spare.generate(prompt="a b c ", ignore_eos=True, max_length=7).json()["usage"]["total_tokens"] == 7


def test_the_worker_never_imports_an_engine_that_is_not_configured(service):
    maps = psutil.Process(worker(service.process.pid)).memory_maps()
    assert any("granian" in entry.path for entry in maps)
    assert not any("torch" in entry.path for entry in maps)


def test_the_greeting_names_the_api_the_docs_and_a_curl(service):
    for text in (f"{service.url}/v1", f"{service.url}/schema", f"{service.url}/v1/health", "curl -s"):
        assert text in service.output


def test_the_service_answers_while_the_model_loads():
    with Service(ready=False, ENGINE="scripted", LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__LOAD="2") as service:
        service.wait_for("/livez")
        health = service.client.get("/v1/health")
        assert (health.status_code, health.json()["status"], health.json()["loaded"]) == (503, "starting", False)
        assert {service.client.get(path).status_code for path in READINESS} == {503}
        refused = service.generate(prompt="too early")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        early = service.client.post("/v1/models/scripted/unload")
        assert (early.status_code, early.json()["error"]["code"]) == (503, "engine_unavailable")
        assert service.client.post("/v1/models/default/load").json()["loaded"] is True
        assert service.client.get("/readyz").status_code == 200
        assert service.generate(prompt="now").status_code == 200
        eventually(lambda: any(line["status"] == 200 for line in service.requests()), 20)
        # The probes of the time before are no news.
        assert {line["path"] for line in service.requests()}.isdisjoint({*READINESS, "/v1/health"})
