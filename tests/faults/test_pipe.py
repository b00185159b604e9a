"""A pipe that is full and that nobody reads takes the log, and nothing else."""

import os
import signal
import subprocess
from contextlib import suppress

import psutil
import pytest

from tests.support.observe import eventually, play
from tests.support.processes import engines, worker
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service

pytestmark = pytest.mark.slow

PATIENCE = 30.0
ACTOR = {"ENGINE": "scripted", "LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true", "LOG_LEVEL": "DEBUG"}
STREAM = {"prompt": play(texts=["tick "], delay=0.02), "ignore_eos": True, "max_new_tokens": 50, "stream": True}


@pytest.fixture
def pipe():
    """A pipe's writing end, without room for one byte more."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(write_end, b"." * size)
    os.set_blocking(write_end, True)
    yield write_end
    for end in (read_end, write_end):
        os.close(end)


@pytest.fixture(params=["standard output", "both outputs"])
def muted(request, pipe):
    stderr = subprocess.STDOUT if request.param == "both outputs" else subprocess.DEVNULL
    with Service(stdout=pipe, stderr=stderr, **ACTOR) as service:
        yield service


def is_served(service):
    return service.generate(prompt=play(texts=["right"]), return_full_text=False).json()["generated_text"] == "right"


def test_whatever_dies_is_replaced(muted):
    assert is_served(muted)
    pid = muted.process.pid
    for _ in range(2):
        killed = worker(pid)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda killed=killed: worker(pid) not in (0, killed), PATIENCE)
        muted.wait_for("/readyz")
        assert is_served(muted)
        [engine] = engines(pid)
        os.kill(engine, signal.SIGKILL)
        eventually(lambda engine=engine: engines(pid) not in ([], [engine]), PATIENCE)
        muted.wait_for("/readyz")
        server = psutil.Process(worker(pid)).parent()
        server.kill()
        server.wait(PATIENCE)
        muted.wait_for("/readyz")
        assert is_served(muted)


def test_the_service_reloads_and_ends_in_its_time(muted):
    muted.process.send_signal(signal.SIGHUP)
    killed = worker(muted.process.pid)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: worker(muted.process.pid) not in (0, killed), PATIENCE)
    muted.wait_for("/readyz")
    with RawHTTP(muted.port).send(post(STREAM)) as stream:
        stream.read_until(b"tick")
        muted.process.send_signal(signal.SIGTERM)
        assert b'"finish_reason"' in stream.read_until(b"[DONE]")
    # What takes a second took 40 where a process waited for the pipe, and was killed in the end.
    assert muted.process.wait(20) == 0


def test_a_service_that_cannot_start_ends(pipe):
    with Service(ready=False, stdout=pipe, ENGINE="no-such-engine") as service:
        assert service.process.wait(PATIENCE) == 2
