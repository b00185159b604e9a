"""Hostile constraints that an engine has to bound: each costs at most its budget, and nothing of it is left."""

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from gateway.linux import resident_bytes
from tests.support.hostile import NAMES, bomb, is_bounded
from tests.support.observe import eventually
from tests.support.processes import descendants, engines, is_alive
from tests.support.service import Service
from tests.support.tiny_models import make_tiny

PATIENCE = 60.0
# What an answer of a few milliseconds may take beside hostile ones, on a machine however busy; and a hostile one.
SECONDS = 10.0
CLIENTS = 4
HELPERS = 3  # the process that forks, and one for each constraint that is compiled at a time
BUDGET_MIB = 64
GROWN_MIB = 256
KINDS = (
    *("deep oneOf", "[ab]*a[ab]{13}", "10,000 values", "a recursive tree", "its own reference", "a remote reference"),
)
QUESTION = {"prompt": "Once upon a time", "max_new_tokens": 8, "temperature": 0, "ignore_eos": True}
NUMBERS = count()


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A service with a tiny model, whose constraints have half a second and some memory."""
    settings = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
    values = {"DTYPE": "float32", "THREADS": "1", "COMPILE_SECONDS": "0.3", "COMPILE_MIB": str(BUDGET_MIB)}
    folder = make_tiny("llama", tmp_path_factory.mktemp("tiny") / "tiny")
    environment = {settings + name: value for name, value in values.items()}
    with Service(ENGINE="hf", MODEL_NAME=str(folder), **environment) as service:
        service.client.timeout = PATIENCE
        eventually(lambda: descendants(engine(service)), PATIENCE)
        yield service


def engine(service):
    return engines(service.process.pid)[0]


def timed(work):
    began = time.monotonic()
    return work(), time.monotonic() - began


def ask(service, name):
    body = {"prompt": "one two", "max_new_tokens": 8, "return_full_text": False}
    answer = service.generate(**body, **bomb(name, next(NUMBERS)))
    return answer.status_code, answer.json(), next(iter(bomb(name)))


@pytest.mark.parametrize("name", KINDS)
def test_a_hostile_kind_has_its_budget_and_costs_its_neighbours_nothing(held, name):
    pid, before = engine(held), held.generate(**QUESTION).json()["generated_text"]
    memory = resident_bytes(pid)
    with ThreadPoolExecutor(CLIENTS) as clients:
        hostile = [clients.submit(timed, lambda: ask(held, name)) for _ in range(CLIENTS)]
        beside = [timed(lambda: held.generate(**QUESTION, seed=next(NUMBERS)).json()) for _ in range(8)]
        answers, seconds = zip(*(each.result() for each in hostile), strict=True)
    assert [answer for answer in answers if not is_bounded(*answer)] == []
    assert {answer["generated_text"] for answer, _ in beside} == {before}
    assert max(*seconds, *(each for _, each in beside)) < SECONDS
    assert engine(held) == pid
    assert len(descendants(pid)) <= HELPERS
    assert resident_bytes(pid) - memory < GROWN_MIB << 20


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
