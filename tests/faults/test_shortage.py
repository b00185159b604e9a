"""Descriptors, space and processes run short while something has to be started: that is waited out."""

import contextlib
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.faults.test_processes import ACTOR, PATIENCE, QUICK, answers, begin, events
from tests.support.observe import eventually
from tests.support.processes import engines, server, worker
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def short_of_descriptors(pid):
    """Let a process open nothing more: what it has open stays."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def full(folder):
    """Leave no room for another file in a small file system, also when one is removed."""
    stop = threading.Event()

    def fill():
        for number in itertools.count():
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    (folder / f"filling-{number}").touch()
                    break
            if stop.is_set():
                return

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        yield
    finally:
        stop.set()
        filling.join()
        for each in folder.glob("filling-*"):
            each.unlink()


@pytest.fixture
def small(tmp_path):
    """A file system with room for a few files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["/bin/umount", "-l", folder], check=True)


def outlasts(service, shortage, said):
    """Kill the engine amid a shortage; see that this is said, that it is no death, and that it ends with it."""
    killed = 0
    with RawHTTP(service.port) as waiting:
        with shortage:
            until = time.monotonic() + PATIENCE
            while not events(service, "engine_shortage"):
                assert time.monotonic() < until, "an engine that died amid a shortage did not say so"
                for pid in engines(service.process.pid):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                time.sleep(0.2)
            eventually(lambda: len(events(service, "engine_shortage")) >= 3, PATIENCE)
            waiting.send(post(QUICK))
            health = service.client.get("/v1/health")
            assert health.status_code == 503
            assert health.json()["status"] == "starting"
            assert "cannot be started for now" in health.json()["detail"]
            assert said in health.json()["detail"]
            assert service.client.get("/livez").status_code == 200
        answer = waiting.answer()
        assert (answer.status, b"right" in answer.body) == (200, True)
    assert answers(service)
    assert service.client.get("/v1/health").json()["detail"] == ""
    assert service.metric("llm_gateway_engine_restarts_total") == killed
    assert all(line["level"] == "WARNING" for line in events(service, "engine_shortage"))


def test_a_shortage_of_descriptors_while_an_engine_dies_is_waited_out():
    with Service(**ACTOR) as service:
        outlasts(service, short_of_descriptors(service.process.pid), "Too many open files")


def test_a_full_folder_for_temporary_files_while_an_engine_dies_is_waited_out(small):
    with Service(**ACTOR, TMPDIR=str(small)) as service:
        outlasts(service, full(small), "No space left on device")


def test_a_shortage_of_descriptors_while_the_server_dies_is_waited_out():
    with Service(**ACTOR) as service:
        before = engines(service.process.pid)
        with short_of_descriptors(service.process.pid):
            os.kill(worker(service.process.pid), signal.SIGKILL)
            os.kill(server(service.process.pid), signal.SIGKILL)
            eventually(lambda: service.output.count("the HTTP server cannot run for now") >= 2, PATIENCE)
        service.wait_for("/readyz")
        assert answers(service)
        assert engines(service.process.pid) == before


def test_a_server_that_is_short_of_descriptors_while_its_worker_dies_is_no_death():
    with Service(**ACTOR) as service:
        with short_of_descriptors(server(service.process.pid)):
            os.kill(worker(service.process.pid), signal.SIGKILL)
            eventually(lambda: "cannot start a worker for now" in service.output, PATIENCE)
        service.wait_for("/readyz")
        assert answers(service)
        assert not events(service, "server_restart")


def test_a_worker_without_descriptors_goes_on_with_its_connections_and_takes_new_ones_later():
    with Service(**ACTOR) as service:
        pid = worker(service.process.pid)
        with begin(service) as stream, RawHTTP(service.port) as kept, contextlib.ExitStack() as late:
            kept.send(post(QUICK))
            assert kept.answer().status == 200
            with short_of_descriptors(pid):
                connections = [
                    late.enter_context(socket.create_connection(("127.0.0.1", service.port), PATIENCE))
                    for _ in range(20)
                ]
                stream.read_until(b"tick")
                kept.send(post(QUICK))
                assert kept.answer().status == 200
            for connection in connections:
                connection.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert worker(service.process.pid) == pid


def test_the_worker_may_open_as_much_as_the_system_lets_it():
    with Service(before=("prlimit", "--nofile=512:2048")) as service:
        assert resource.prlimit(worker(service.process.pid), resource.RLIMIT_NOFILE) == (2048, 2048)
        assert resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE) == (512, 2048)


def test_a_server_says_by_its_exit_code_that_the_system_is_short_of_something():
    """Its own interpreter, in which the fork of a worker fails."""
    program = """
import errno, os
from gateway import config, server
from gateway.config import handover
def fork():
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
class Short:
    def __init__(self, *_): pass
    def on_startup(self, _): pass
    def serve(self, *_, **__): fork()
server._granian = Short
server.relay = lambda _: type("Handover", (), {"giver": os.getppid()})
server._import_application = lambda: None
raise SystemExit(server.main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert "cannot start a worker for now: [Errno 11]" in ended.stderr
