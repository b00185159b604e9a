"""Models that requests load, over HTTP: what waits is told, what cannot be is refused, a lost worker costs none."""

import os
import signal
import threading

import pytest

from tests.support.observe import eventually, is_error, play
from tests.support.processes import engines, worker
from tests.support.service import Service
from tests.support.sse import frames

PATIENCE = 60.0
ENGINE = """
[engines.{name}]
plugin = "scripted"
isolated = {isolated}
load = "demand"
{idle}settings = {{ model = "org/{name}-model", load = {seconds}, size = {size} }}
"""


def engine(name, *, seconds=0.0, size=4, isolated=False, idle=None):
    idle = "" if idle is None else f"idle_seconds = {idle}\n"
    return ENGINE.format(name=name, seconds=seconds, size=size, isolated=str(isolated).lower(), idle=idle)


@pytest.fixture
def configured(tmp_path):
    """Start a service with a configuration; its first engine is the default one."""
    services = []

    def start(*parts):
        file = tmp_path / "gateway.toml"
        file.write_text("".join(parts))
        services.append(Service("--config", str(file), ENGINE="").__enter__())
        return services[-1]

    yield start
    for service in services:
        service.__exit__()


def ask(service, model, **body):
    return service.generate(model=model, prompt=play(texts=["right"]), return_full_text=False, **body)


def shown(service):
    return {model["engine"]: model for model in service.client.get("/v1/models").json()["data"]}


def test_the_first_request_loads_and_others_make_room(configured):
    service = configured("[models]\nmax_loaded = 1\n", engine("a"), engine("b"))
    health = service.client.get("/v1/health").json()
    assert (health["status"], health["loaded"], health["detail"]) == ("ready", False, "")
    assert shown(service)["a"] | {"status": "unloaded", "last_used": None, "capabilities": []} == shown(service)["a"]
    is_error(service.client.get("/v1/models/a/capabilities"), 503, "engine_unavailable")
    for name in ("a", "org/b-model", "b-model", "a-model"):
        answer = ask(service, name)
        assert (answer.status_code, answer.json()["generated_text"]) == (200, "right"), answer.text
    models = shown(service)
    assert (models["a"]["status"], models["b"]["status"]) == ("loaded", "unloaded")
    assert models["b"]["detail"] == "not loaded, for it made room for another; the next request loads it"
    assert models["a"]["size"] == 4
    assert models["a"]["last_used"] >= models["b"]["last_used"] > 1_700_000_000
    assert models["b"]["context_window"] == 4096
    assert service.metric("llm_gateway_model_loads_total", engine="a", result="ok") == 2
    assert service.metric("llm_gateway_model_evictions_total", engine="b", reason="room") == 1
    assert service.metric("llm_gateway_model_resident") == 1
    assert service.metric("llm_gateway_engine_up", engine="b") == 1


def test_what_can_never_fit_is_refused_and_said_by_hand_too(configured):
    service = configured("[models]\nmemory_budget = 10\n", engine("a"), engine("b", size=11))
    answer = ask(service, "b")
    assert is_error(answer, 503, "engine_unavailable")
    assert "about 11 bytes, and models.memory_budget is 10" in answer.json()["error"]["message"]
    assert is_error(service.client.post("/v1/models/b/load"), 503, "load_failed")
    assert service.metric("llm_gateway_model_loads_total", engine="b", result="refused") == 2
    assert ask(service, "a").status_code == 200


def test_a_stream_that_asked_for_it_is_told_of_the_load_and_then_answered(configured):
    service = configured(engine("a", seconds=0.5, isolated=True))
    body = {"model": "a", "messages": [{"role": "user", "content": play(texts=["right"])}], "stream": True}
    for first in (True, False):
        told = service.client.post("/v1/chat/completions", json=body, headers={"prefer": "queue-updates"}).text
        assert told.startswith(": load model=a-model"), told
        pieces = [frame for frame in frames([told]) if isinstance(frame, dict)]
        assert pieces[0]["model"] == "a-model"
        assert "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces) == "right"
        if first:
            assert service.client.post("/v1/models/a/unload").status_code == 200


def test_what_the_model_cannot_do_is_refused_once_that_is_known(configured):
    service = configured(engine("a"))
    for _ in range(2):
        answer = service.client.post("/v1/completions", json={"model": "a", "prompt": "x", "logit_bias": {"1": 1}})
        assert is_error(answer, 400, "unsupported_parameter", "logit_bias")
    assert is_error(ask(service, "nothing"), 404, "model_not_found", "model")


def test_questions_load_too_and_a_request_waits_no_longer_than_it_says(configured):
    service = configured(engine("a"), engine("slow", seconds=3600.0))
    assert service.client.post("/tokenize", json={"model": "a", "prompt": "x y"}).json()["count"] == 2
    answer = ask(service, "slow", timeout=0.2)
    assert is_error(answer, 504, "deadline_exceeded")
    assert shown(service)["slow"]["status"] == "loading"
    assert service.client.get("/readyz").status_code == 200


def test_a_worker_that_dies_leaves_the_loaded_ones_loaded(configured):
    service = configured("[models]\nmax_loaded = 1\n", engine("a", isolated=True), engine("b", isolated=True))
    assert ask(service, "a").status_code == 200
    [process] = engines(service.process.pid)
    before = worker(service.process.pid)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: worker(service.process.pid) != before, PATIENCE)
    eventually(lambda: is_answered(service, "a"), PATIENCE)
    assert engines(service.process.pid) == [process]
    assert ask(service, "b").status_code == 200
    assert len(engines(service.process.pid)) == 1


def is_answered(service, model):
    try:
        return ask(service, model).status_code == 200
    except Exception:  # noqa: BLE001 - the connection of a dying worker
        return False


def test_random_traffic_to_more_models_than_there_is_room_for_is_answered_rightly(configured):
    names = "abcdef"
    service = configured("[models]\nmax_loaded = 2\n", *[engine(name, isolated=name < "c") for name in names])
    wrong = []

    def client(seed):
        for turn in range(12):
            name = names[(seed * 7 + turn * 5) % len(names)]
            answer = service.generate(model=name, prompt=play(texts=[name] * 3, delay=0.01), return_full_text=False)
            if (answer.status_code, answer.json().get("generated_text"), answer.json().get("model")) != (
                200,
                name * 3,
                f"{name}-model",
            ):
                wrong.append(answer.text)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert sum(model["status"] in ("loaded", "loading") for model in shown(service).values()) <= 2
    assert wrong == []


def test_a_model_that_is_idle_is_unloaded_and_one_that_answers_is_not(configured):
    service = configured(engine("a", isolated=True, idle=0.5))
    body = {"model": "a", "prompt": play(texts=["tick "] * 30, delay=0.05), "return_full_text": False}
    assert service.client.post("/v1/generate", json=body).json()["generated_text"] == "tick " * 30
    eventually(lambda: shown(service)["a"]["status"] == "unloaded", PATIENCE)
    assert shown(service)["a"]["detail"] == "not loaded, for it was idle; the next request loads it"
    eventually(lambda: engines(service.process.pid) == [], PATIENCE)
    assert service.client.get("/readyz").status_code == 200
    assert ask(service, "a").json()["generated_text"] == "right"
    assert service.metric("llm_gateway_model_loads_total", engine="a", result="ok") == 2
    assert service.metric("llm_gateway_model_evictions_total", engine="a", reason="idle") >= 1


def reload(service, file, *parts):
    """Put another configuration in force."""
    before = service.output.count('"reloaded"')
    file.write_text("".join(parts))
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: service.output.count('"reloaded"') > before, PATIENCE)


def test_a_reload_changes_which_models_there_are_and_how_many_stay(configured, tmp_path):
    bound, kept = "[models]\nmax_loaded = {}\n", [engine(name, isolated=True) for name in "ab"]
    service = configured(bound.format(3), *kept, engine("goes", seconds=2.0))
    assert [ask(service, name).status_code for name in "ab"] == [200, 200]
    before = engines(service.process.pid)
    waiting = []
    asking = threading.Thread(target=lambda: waiting.append(ask(service, "goes")))
    asking.start()
    eventually(lambda: shown(service)["goes"]["status"] == "loading", PATIENCE)
    reload(service, tmp_path / "gateway.toml", bound.format(2), *kept, engine("comes"))
    asking.join(PATIENCE)
    assert is_error(waiting[0], 503, "engine_unavailable")
    assert "the configuration has another engine of this name, or none" in waiting[0].json()["error"]["message"]
    assert is_error(ask(service, "goes"), 404, "model_not_found", "model")
    # With the one that was loading there were three: the least recently used made room, the other runs on unchanged.
    eventually(lambda: [shown(service)[name]["status"] for name in "ab"] == ["unloaded", "loaded"], PATIENCE)
    eventually(lambda: len(engines(service.process.pid)) == 1, PATIENCE)
    assert set(engines(service.process.pid)) < set(before)
    eventually(lambda: service.metric("llm_gateway_model_resident") == 1, PATIENCE)  # what was loading has left
    assert ask(service, "comes").json()["generated_text"] == "right"
    assert shown(service)["b"]["status"] == "loaded"


def test_a_reload_changes_when_a_model_goes_while_it_runs_on(configured, tmp_path):
    service = configured(engine("a", isolated=True))
    assert ask(service, "a").status_code == 200
    [process] = engines(service.process.pid)
    reload(service, tmp_path / "gateway.toml", engine("a", isolated=True, idle=3600))
    assert ask(service, "a").status_code == 200
    assert engines(service.process.pid) == [process]
    reload(service, tmp_path / "gateway.toml", engine("a", isolated=True, idle=0.2))
    eventually(lambda: engines(service.process.pid) == [], PATIENCE)
    assert ask(service, "a").status_code == 200
