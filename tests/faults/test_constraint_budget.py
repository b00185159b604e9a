"""Hostile constraints that an engine has to bound: each costs at most its budget, and nothing of it is left."""

import resource
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from tests.support.hostile import NAMES, bomb, is_bounded
from tests.support.observe import eventually
from tests.support.processes import descendants, engines, is_alive
from tests.support.service import Service
from tests.support.tiny_models import make_tiny

pytestmark = pytest.mark.slow

PATIENCE = 60.0
CLIENTS = 4
HELPERS = 3  # the process that forks, and one for each constraint that is compiled at a time
BUDGET_MIB = 64
QUESTION = {"prompt": "Once upon a time", "max_new_tokens": 8, "temperature": 0, "ignore_eos": True}
NUMBERS = count()


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A service with a tiny model, whose constraints have half a second and some memory."""
    settings = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
    values = {"THREADS": "1", "COMPILE_SECONDS": "0.3", "COMPILE_MIB": str(BUDGET_MIB)}
    folder = make_tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny")
    environment = {settings + name: value for name, value in values.items()}
    with Service(ENGINE="hf", MODEL_NAME=str(folder), **environment) as service:
        service.client.timeout = PATIENCE
        eventually(lambda: descendants(engine(service)), PATIENCE)
        yield service


def engine(service):
    return engines(service.process.pid)[0]


def ask(service, name):
    body = {"prompt": "one two", "max_new_tokens": 8, "return_full_text": False}
    answer = service.generate(**body, **bomb(name, next(NUMBERS)))
    return answer.status_code, answer.json(), next(iter(bomb(name)))


def test_hostile_constraints_of_many_clients_are_answered_or_refused_and_the_next_question_is_served(held):
    pid, before = engine(held), held.generate(**QUESTION).json()["generated_text"]
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = dict(zip(NAMES, clients.map(lambda name: ask(held, name), NAMES), strict=True))
        assert held.generate(**QUESTION, seed=1).json()["generated_text"] == before
    wrong = {name: answer for name, answer in answers.items() if not is_bounded(*answer)}
    assert wrong == {}
    assert {200, 400} == {status for status, _, _ in answers.values()}
    assert held.generate(**QUESTION, seed=2).json()["generated_text"] == before
    assert engine(held) == pid


def test_the_kernel_bounds_the_memory_of_each_process_that_compiles(held):
    for _ in range(2):
        ask(held, "alternatives without end")
    helpers = descendants(engine(held))
    assert len(helpers) <= HELPERS
    limits = [resource.prlimit(pid, resource.RLIMIT_AS)[0] for pid in helpers]
    workers = {pid: limit for pid, limit in zip(helpers, limits, strict=True) if limit != resource.RLIM_INFINITY}
    assert len(workers) >= len(helpers) - 1
    for pid, limit in workers.items():
        status = Path(f"/proc/{pid}/status").read_text()
        (most,) = (int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmPeak"))
        assert most <= limit


def test_no_process_that_compiles_is_left_when_the_model_is_unloaded(held):
    ask(held, "[ab]*a[ab]{13}")
    pids = [engine(held), *descendants(engine(held))]
    assert len(pids) >= 3
    (model,) = held.client.get("/v1/models").json()["data"]
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(ask, held, name) for name in ("deep oneOf", "a long regex", "doubling")]
        assert held.client.post(f"/v1/models/{model['id']}/unload").json()["loaded"] is False
        assert {each.result()[0] for each in asked} <= {200, 400, 503}
    eventually(lambda: not any(map(is_alive, pids)), PATIENCE)
    assert held.client.post(f"/v1/models/{model['id']}/load").json()["loaded"] is True
    assert held.generate(**QUESTION).status_code == 200
