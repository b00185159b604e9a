"""Reloads that follow one another while an answer of the old engine is on its way."""

import signal
import threading
from contextlib import contextmanager

import pytest

from tests.support.observe import eventually, play
from tests.support.processes import engines
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service

pytestmark = pytest.mark.slow

PATIENCE = 20.0
STAYS = '[engines.stays]\nplugin = "scripted"\nisolated = true\nsettings = { model = "stays" }\n'
NAMED = '[engines.one]\nplugin = "scripted"\nisolated = true\nsettings = {{ model = "{model}" }}\n'
LONG = {"model": "a", "prompt": play(texts=["tick "], delay=0.02), "max_new_tokens": 150, "ignore_eos": True}
LONG |= {"stream": True, "return_full_text": False}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "gateway.toml"


def configure(service, file, model):
    """Put `model` into the place of the engine `one`, none if it is empty, and wait until that is in force."""
    before = service.output.count('"reloaded"')
    file.write_text(STAYS + (NAMED.format(model=model) if model else ""))
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: service.output.count('"reloaded"') > before, PATIENCE)


def ask(service, model):
    answer = service.generate(model=model, prompt=play(texts=["right"]), return_full_text=False)
    return (answer.status_code, answer.json().get("generated_text"))


@contextmanager
def neighbour(service):
    """Ask the engine that stays, over and over; yield what it answers."""
    heard, stop = set(), threading.Event()

    def keep_asking():
        while not stop.wait(0.02):
            heard.add(ask(service, "stays"))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        yield heard
    finally:
        stop.set()
        asking.join()


@pytest.mark.parametrize("steps", [("b", "a"), ("b", "c"), ("", "a")], ids="-".join)
def test_reloads_within_one_drain_cut_no_answer_and_end_with_the_processes_that_are_wanted(file, steps):
    file.write_text(STAYS + NAMED.format(model="a"))
    with Service("--config", str(file)) as service:
        eventually(lambda: ask(service, "a")[0] == 200, PATIENCE)
        before = engines(service.process.pid)
        wanted = steps[-1]
        with neighbour(service) as heard, RawHTTP(service.port).send(post(LONG)) as stream:
            stream.read_until(b"tick")
            for model in steps:
                configure(service, file, model)
            assert sorted(engines(service.process.pid)) == sorted(before)
            rest = stream.read_until(b"[DONE]")
            assert b'"finish_reason":"length"' in rest
            assert b'"error"' not in rest
            eventually(lambda: ask(service, wanted) == (200, "right"), PATIENCE)
        assert heard == {(200, "right")}
        # The new engine serves on: nothing that was asked of the old one ends its process.
        with RawHTTP(service.port).send(post(LONG | {"model": wanted})) as stream:
            stream.read_until(b"tick")
            assert b'"error"' not in stream.read_until(b"[DONE]")
        after = engines(service.process.pid)
        assert len(after) == 2
        assert len({*after} & {*before}) == 1
        assert service.metric("llm_gateway_engine_restarts_total") == 0
        models = service.client.get("/v1/models").json()["data"]
        assert {model["id"] for model in models} == {"echo", "stays", wanted}
