"""A real Redis or Valkey for the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.service import free_port

PROGRAMS = ("valkey-server", "redis-server")


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
