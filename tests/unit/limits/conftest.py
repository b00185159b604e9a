"""Stores to try: one in memory with a clock of ours, and a real server's."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from gateway.limits import Limiter, MemoryStore
from gateway.limits.shared import SharedStore
from tests.support.clock import Clock

PROGRAMS = ("valkey-server", "redis-server")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class StoreServer:
    """A real Redis or Valkey on the loopback, that can be stopped and thawed."""

    def __init__(self):
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.skip("neither valkey-server nor redis-server is installed: Debian has both")
        self.port = free_port()
        self.folder = tempfile.mkdtemp()
        self.arguments = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.process = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        with Path(self.folder, "log").open("wb") as log:
            self.process = subprocess.Popen(self.arguments, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail("the store's server does not start")

    def signal(self, number):
        os.kill(self.process.pid, number)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def store_server():
    server = StoreServer()
    yield server
    server.close()


@pytest.fixture
async def shared(store_server):
    """A shared store that is patient with a busy machine, and whose names nobody else uses."""
    store = SharedStore(store_server.url, seconds=5, prefix=uuid.uuid4().hex)
    yield store
    await store.aclose()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "shared"])
async def limiter(request, clock):
    """Every rule that needs no clock holds in both stores."""
    if request.param == "memory":
        yield Limiter(MemoryStore(clock), clock=clock)
    else:
        server = request.getfixturevalue("store_server")
        store = SharedStore(server.url, seconds=5, prefix=uuid.uuid4().hex)
        yield Limiter(store)
        await store.aclose()


@pytest.fixture
def local(clock):
    return Limiter(clock=clock)
