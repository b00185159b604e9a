"""A configuration of any size reaches each server and each worker, the newest one, and no environment shows it."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from gateway.auth import digest_of
from tests.support.observe import eventually
from tests.support.processes import descendants, worker
from tests.support.service import Service

PATIENCE = 30.0
KEYS = 1_500  # 190 KiB of hashes; one string of an environment may have 128


def key(number: int) -> str:
    return f"configured-key-{number:05}"


def write(file: Path, numbers: range) -> None:
    tables = (f'[auth.keys.caller{number}]\nsha256 = "{digest_of(key(number))}"\n' for number in numbers)
    file.write_text('[engines.default]\nplugin = "echo"\n' + "".join(tables))


def status(service: Service, number: int) -> int:
    headers = {"authorization": f"Bearer {key(number)}"}
    return service.client.post("/v1/generate", json={"prompt": "a b"}, headers=headers).status_code


@pytest.fixture
def file(tmp_path):
    return tmp_path / "gateway.toml"


def reload(service: Service) -> None:
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: any(line.get("event") == "reloaded" for line in service.lines), PATIENCE)


def replace_worker(service: Service) -> None:
    killed = worker(service.process.pid)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: worker(service.process.pid) not in (0, killed), PATIENCE)
    service.wait_for("/readyz")


def replace_server(service: Service) -> None:
    server = psutil.Process(worker(service.process.pid)).parent()
    server.kill()
    server.wait(PATIENCE)
    service.wait_for("/readyz")


def test_a_configuration_of_many_keys_is_served(file):
    write(file, range(KEYS))
    with Service("--config", str(file)) as service:
        assert [status(service, number) for number in (0, KEYS - 1, KEYS)] == [200, 200, 401]


@pytest.mark.parametrize("replace", [replace_worker, replace_server])
def test_a_large_reload_is_in_force_in_whatever_comes_after_it(file, replace):
    write(file, range(1))
    with Service("--config", str(file)) as service:
        write(file, range(1, KEYS))
        reload(service)
        assert [status(service, number) for number in (0, 1, KEYS - 1)] == [401, 200, 200]
        replace(service)
        assert [status(service, number) for number in (0, 1, KEYS - 1)] == [401, 200, 200]


def test_a_worker_begins_with_the_newest_configuration(file):
    """It does not begin with the old one, to be told of the newer one afterwards."""
    write(file, range(1))
    with Service("--config", str(file)) as service:
        file.write_text(file.read_text() + '[telemetry]\nlog_level = "DEBUG"\n')
        reload(service)
        replace_worker(service)
        assert status(service, 0) == 200
        eventually(lambda: any(line["level"] == "DEBUG" for line in service.lines), PATIENCE)


def test_no_hash_of_a_key_is_in_an_environment(file):
    write(file, range(3))
    with Service("--config", str(file)) as service:
        for pid in descendants(service.process.pid):
            assert digest_of(key(0)) not in Path(f"/proc/{pid}/environ").read_text()
