"""Processes that compile and check: each job has its budget, and none takes another with it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.engine import Choice, EngineError, Grammar, JsonSchema, Regex
from gateway_hf.constrain.jobs import CompileBudget, Job, Nursing
from gateway_hf.constrain.workers import OverBudgetError, Workers
from tests.support.observe import eventually
from tests.support.processes import is_alive

_SLOW = Grammar("start: " + " | ".join(f'"a{at}"' for at in range(50_000)))


@pytest.fixture(scope="module")
def make(vocabulary_of):
    made = []

    def make(seconds=10.0, mib=128):
        tiny = vocabulary_of("llama")
        made.append(Workers(Nursing(tiny.written, tiny.size, tiny.ends, CompileBudget(seconds, mib))))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


@pytest.fixture(scope="module")
def workers(make):
    return make(seconds=0.5)


def _children(process):
    tasks = Path("/proc", str(process), "task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def test_a_constraint_is_compiled_or_its_fault_is_told(workers):
    result = workers.run(Job(Regex("a+")))
    assert result.fault is None
    assert result.grammar
    assert "look-ahead" in workers.run(Job(Regex("(?=a)"))).fault
    assert workers.run(Job(JsonSchema({"not": {}}))).fault.startswith("$.not: ")


def test_an_answer_is_checked(workers):
    assert workers.run(Job(Choice(("a",)), "a")).fault is None
    assert workers.run(Job(Choice(("a",)), "b")).fault == "it is none of the choices"


def test_a_job_that_takes_too_long_ends_with_its_process(workers):
    with pytest.raises(OverBudgetError, match=r"0\.5 s of processor time"):
        workers.run(Job(_SLOW))
    assert workers.run(Job(Regex("a+"))).fault is None


def test_a_job_that_goes_on_has_only_what_the_model_leaves(workers):
    first = os.getpriority(os.PRIO_PROCESS, 0) + 5

    def nices():
        found = set()
        with suppress(ProcessLookupError, FileNotFoundError):  # a process that has just ended
            for each in _children(os.getpid()):
                found |= {os.getpriority(os.PRIO_PROCESS, pid) for pid in _children(each)}
        return found

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(workers.run, Job(_SLOW))
        eventually(lambda: 15 in nices(), 60)
        with pytest.raises(OverBudgetError):
            slow.result()
    eventually(lambda: 15 not in nices(), 60)
    workers.run(Job(Regex("a+")))
    eventually(lambda: first in nices(), 60)


def test_a_check_that_takes_too_long_ends_with_its_process(workers):
    levels = {"d0": {"type": "string"}}
    for at in range(40):
        inner = {"properties": {"a": {"$ref": f"#/$defs/d{at}"}}}
        levels[f"d{at + 1}"] = {"oneOf": [inner, {**inner, "required": ["a"]}]}
    schema = {"$ref": "#/$defs/d40", "$defs": levels}
    with pytest.raises(OverBudgetError):
        workers.run(Job(JsonSchema(schema), '{"a": ' * 40 + "1" + "}" * 40))


def test_a_job_that_takes_too_much_memory_ends_with_its_process(make):
    small = make(mib=16)
    with pytest.raises(OverBudgetError, match="16 MiB"):
        small.run(Job(_SLOW))
    assert small.run(Job(Regex("a+"))).fault is None


def test_jobs_run_side_by_side(workers):
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(workers.run, Job(_SLOW))
        assert workers.run(Job(Regex("b+"))).fault is None
        assert not slow.done()
        with pytest.raises(OverBudgetError):
            slow.result()


def test_a_process_that_was_killed_is_replaced(workers):
    workers.run(Job(Regex("a+")))
    process = workers._process
    for child in _children(process.pid):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    with pytest.raises(OverBudgetError):  # the worker was killed: what it was killed for is not known
        workers.run(Job(Regex("a+")))
    assert workers.run(Job(Regex("a+"))).fault is None
    assert workers._process is not process


def test_nothing_is_left_after_the_end(make):
    ended = make()
    ended.run(Job(Regex("a+")))
    process = ended._process
    children = _children(process.pid)
    assert len(children) == 1
    ended.close()
    assert process.returncode is not None
    for _ in range(100):
        if not Path("/proc", str(children[0])).exists():
            break
        time.sleep(0.02)
    assert not Path("/proc", str(children[0])).exists()
    with pytest.raises(EngineError, match="unloaded"):
        ended.run(Job(Regex("a+")))


def test_a_process_whose_job_outlasts_the_end_ends_with_its_job(make, monkeypatch):
    ended = make(seconds=0.5)
    ended.run(Job(Regex("a+")))
    (child,) = _children(ended._process.pid)
    channel = ended._take()
    monkeypatch.setattr(ended, "_take", lambda: channel)
    ended.close()
    assert is_alive(child)
    assert ended.run(Job(Regex("b+"))).fault is None
    eventually(lambda: not is_alive(child), 60)


def test_a_process_that_cannot_be_started_is_an_error(make, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(EngineError, match="cannot be started"):
        make().run(Job(Regex("a+")))
