"""Whatever becomes of the file of keys, the last known keys are in force, and no request waits for another program."""

import os
import signal
import sqlite3
from contextlib import closing

import pytest

from gateway.auth import KeyFile, Scope
from tests.support.observe import eventually, is_error
from tests.support.processes import worker
from tests.support.service import Service

PATIENCE = 30.0
# A request takes milliseconds, and a tenth of a second where it is the first to find the file locked.
SECONDS = 4.0


class Shop:
    """A service, its file of keys, and a key to everything."""

    def __init__(self, folder):
        self.file = KeyFile(folder / "keys.db")
        self.known = self.file.create("known", scopes=frozenset({Scope.ADMIN}))[1]
        self.service = Service(LLM_GATEWAY__AUTH__FILE=str(self.file.path))

    def ask(self, key):
        headers = {"authorization": f"Bearer {key}"}
        return self.service.client.post("/v1/generate", json={"prompt": "a b"}, headers=headers, timeout=SECONDS)

    def is_unreadable(self):
        self.service.client.headers["authorization"] = f"Bearer {self.known}"
        return self.service.metric("llm_gateway_key_file_unreadable") == 1

    def lock(self):
        """Take the file for this program alone, until what is returned is closed."""
        connection = sqlite3.connect(self.file.path, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        return closing(connection)

    def events(self):
        return [line["event"] for line in self.service.lines if line.get("event", "").startswith("keys_")]


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path)
    with shop.service:
        yield shop


def test_a_file_that_another_program_has_locked_holds_up_no_request(shop):
    new = shop.file.create("new")[1]
    with shop.lock():
        assert [shop.ask(shop.known).status_code for _ in range(5)] == [200] * 5
        assert is_error(shop.ask(new), 401, "invalid_api_key")
        assert shop.is_unreadable()
    assert shop.ask(new).status_code == 200
    assert not shop.is_unreadable()
    eventually(lambda: shop.events() == ["keys_unreadable", "keys_readable"], PATIENCE)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_stands_in_the_place_of_the_file_holds_up_no_request(shop, make):
    kept = shop.file.path.rename(shop.file.path.with_name("kept"))
    make(shop.file.path)
    assert [shop.ask(shop.known).status_code for _ in range(3)] == [200] * 3
    assert shop.is_unreadable()
    shop.file.path.rmdir() if shop.file.path.is_dir() else shop.file.path.unlink()
    kept.rename(shop.file.path)
    shop.file.revoke("known")
    assert is_error(shop.ask(shop.known), 401, "invalid_api_key")


def test_a_worker_that_comes_while_the_file_is_locked_lets_nobody_in_and_does_not_end(shop):
    with shop.lock():
        killed = worker(shop.service.process.pid)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: worker(shop.service.process.pid) not in (0, killed), PATIENCE)
        shop.service.wait_for("/livez")
        successor = worker(shop.service.process.pid)
        answer = shop.ask(shop.known)
        assert is_error(answer, 503, "keys_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert is_error(shop.service.client.post("/v1/generate", json={"prompt": "a"}), 401, "missing_api_key")
    assert shop.ask(shop.known).status_code == 200
    assert worker(shop.service.process.pid) == successor


def test_a_reload_while_the_file_is_locked_holds_up_no_request(shop):
    with shop.lock():
        shop.service.process.send_signal(signal.SIGHUP)
        assert [shop.ask(shop.known).status_code for _ in range(5)] == [200] * 5
