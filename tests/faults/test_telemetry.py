"""Telemetry may be lost, requests may not: logs that nobody reads, scrapes without end, descriptors that run out."""

import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx

from tests.support.observe import eventually
from tests.support.service import Service, free_port

FILES = 64


class Bare:
    """The service without anybody who reads its log."""

    def __init__(self, **terms) -> None:
        port = free_port()
        environment = os.environ | {"ENGINE": "echo", "PORT": str(port), "LOG_LEVEL": "DEBUG"}
        self.port = port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], env=environment, stderr=subprocess.DEVNULL, **terms
        )

    def is_ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def generate(self, **body):
        return self.client.post("/v1/generate", json=body)

    def __enter__(self):
        eventually(self.is_ready, 60)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()


def test_a_log_that_nobody_reads_holds_up_no_request():
    with Bare(stdout=subprocess.PIPE) as service:
        for number in range(400):
            assert service.generate(prompt=f"word {number}").status_code == 200
    assert service.process.returncode == 0


def test_scrapes_without_end_hold_up_no_request():
    with Service() as service, ThreadPoolExecutor(20) as pool:
        scrapes = [pool.submit(service.client.get, "/metrics") for _ in range(400)]
        for number in range(50):
            assert service.generate(prompt=f"word {number}").status_code == 200
        for scrape in scrapes:
            answer = scrape.result()
            assert answer.status_code == 200
            assert len(answer.content) < 256 * 1024


def test_descriptors_that_run_out_are_no_end():
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))  # noqa: E731
    with Bare(stdout=subprocess.DEVNULL, preexec_fn=limit) as service:
        with ExitStack() as stack:
            for _ in range(2 * FILES):
                stack.enter_context(socket.create_connection(("127.0.0.1", service.port), 5))
        eventually(lambda: service.is_ready() and service.generate(prompt="a").status_code == 200, 30)
    assert service.process.returncode == 0
