"""The memory of the worker while clients send much at once, or read nothing of what they asked for."""

import concurrent.futures
import json
import socket
import time
from contextlib import ExitStack

import httpx
import psutil
import pytest

from tests.support.observe import eventually
from tests.support.rawhttp import JSON, RawHTTP, request
from tests.support.service import Service

MIB = 2**20
SCRIPT = "/schema/assets/scalar.js"


def worker(service: Service) -> psutil.Process:
    """Find the newest process of the server: the main one of granian has started it."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    return max((each for each in children if "gateway.server" in each.cmdline()), key=psutil.Process.create_time)


def _established(process: psutil.Process) -> list:
    return [each for each in process.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED]


@pytest.fixture
def service():
    with Service(LLM_GATEWAY__SERVER__STALL_SECONDS="2", LLM_GATEWAY__SERVER__BODY_SECONDS="60") as service:
        yield service


def test_many_that_read_nothing_of_a_large_answer_hold_little_and_are_cut(service):
    process = worker(service)
    service.client.get(SCRIPT, headers={"accept-encoding": "identity"})  # it is made once
    before = process.memory_info().rss
    with ExitStack() as open_connections:
        deaf = [open_connections.enter_context(RawHTTP(service.port)) for _ in range(150)]
        for connection in deaf:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.send(request(path=SCRIPT))
        most = 0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            most = max(most, process.memory_info().rss)
            assert service.client.get("/livez").status_code == 200
        assert most - before < 60 * MIB  # 700 MiB where each has the whole script
        # What they asked for is given up: the connections are closed from this side, though they still read nothing.
        eventually(lambda: len(_established(process)) < 10, 30)
    assert len(service.client.get(SCRIPT, headers={"accept-encoding": "identity"}).content) > MIB


def test_large_bodies_at_once_wait_their_turn_and_are_all_answered(service):
    process = worker(service)
    body = json.dumps({"prompt": "w" * 4_000_000, "max_new_tokens": 1}).encode()

    def ask(_: int) -> int:
        headers = {"content-type": "application/json"}
        return httpx.post(f"{service.url}/v1/generate", content=body, headers=headers, timeout=120).status_code

    before = process.memory_info().rss
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert set(pool.map(ask, range(16))) == {200}
    assert process.memory_info().rss - before < 60 * MIB


def test_metrics_say_what_large_bodies_and_answers_hold():
    with Service(LLM_GATEWAY__SERVER__STALL_SECONDS="60", LLM_GATEWAY__SERVER__BODY_SECONDS="60") as service:
        length = "Content-Length: 1000000"
        with RawHTTP(service.port) as slow, RawHTTP(service.port) as deaf:
            slow.send(request("POST", "/v1/generate", JSON, length), b'{"prompt":"')
            eventually(lambda: service.metric("llm_gateway_held_body_bytes") == 1_000_000, 60)
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.send(request(path=SCRIPT))
            eventually(lambda: service.metric("llm_gateway_unsent_bytes") > 500_000, 60)
            slow.send(b"a" * (1_000_000 - 13) + b'"}')
            assert slow.answer().status == 200
        for name in ("held_body_bytes", "unsent_bytes"):
            eventually(lambda name=name: service.metric(f"llm_gateway_{name}") == 0, 60)
