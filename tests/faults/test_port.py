"""One port has one service, for as long as that lives; whatever dies behind the port, clients find it open."""

import os
import signal
import socket

import httpx
import psutil
import pytest

from tests.support.observe import eventually
from tests.support.processes import worker
from tests.support.service import Service

PATIENCE = 30.0


def is_refused(service: Service, port: int, host: str = "127.0.0.1") -> None:
    """Hold a service that found its port taken against what it must do: say one line, and end with 2."""
    assert service.process.wait(PATIENCE) == 2
    assert service.output == f"llm-gateway: cannot listen on {host} port {port}: Address already in use\n"


def answers(port: int) -> bool:
    """Ask on a new connection, which services on one port would share among them."""
    try:
        return httpx.post(f"http://127.0.0.1:{port}/v1/generate", json={"prompt": "a b"}, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_of_two_services_that_start_at_once_one_serves():
    with Service(ready=False) as one, Service(ready=False, PORT=str(one.port)) as two:
        [loser] = eventually(lambda: [each for each in (one, two) if each.process.poll() is not None], PATIENCE)
        is_refused(loser, one.port)
        eventually(lambda: answers(one.port), PATIENCE)
        assert all(answers(one.port) for _ in range(20))
        assert sum(each.process.poll() is None for each in (one, two)) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - it never gets to listen
def test_nobody_gets_the_port_of_a_service_whose_server_is_replaced(address):
    with Service() as service:
        server = psutil.Process(worker(service.process.pid)).parent()
        server.kill()
        server.wait(PATIENCE)
        environment = {"HOST": address, "PORT": str(service.port), "LLM_GATEWAY__AUTH__INSECURE_NO_AUTH": "true"}
        with Service(ready=False, **environment) as second:
            is_refused(second, service.port, address)
        assert answers(service.port)


def test_a_client_finds_the_port_open_while_the_worker_is_replaced():
    with Service() as service:
        for _ in range(2):
            killed = worker(service.process.pid)
            os.kill(killed, signal.SIGKILL)
            assert answers(service.port)
            # A worker that dies young twice in a row takes granian along.
            eventually(lambda killed=killed: worker(service.process.pid) not in (0, killed), PATIENCE)


def test_a_client_finds_the_port_open_while_the_server_is_replaced():
    with Service() as service:
        psutil.Process(worker(service.process.pid)).parent().kill()
        assert answers(service.port)


def test_a_request_that_comes_before_the_worker_is_answered_by_it():
    with Service(ready=False) as service:
        eventually(lambda: is_open(service.port), PATIENCE)
        assert service.generate(prompt="a b").status_code == 200


def test_a_port_is_closed_at_the_end_and_free_for_the_next_service():
    with Service() as service:
        with socket.create_connection(("127.0.0.1", service.port)) as idle:
            service.process.send_signal(signal.SIGTERM)
            eventually(lambda: not is_open(service.port), PATIENCE)
            assert service.process.wait(PATIENCE) == 0
            assert idle.recv(1) == b""
        with Service(PORT=str(service.port), ready=False):
            eventually(lambda: answers(service.port), PATIENCE)
