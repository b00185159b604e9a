"""Measure what the engine `openai` adds to the server behind it, in one run: both are services of ours with an echo.

`just overhead` prints the medians of a small answer asked directly and through the engine, by turns; the answers a
second of both; the processor time in the worker of a streamed token; and how soon a client that leaves is known to the
server. With `--with-litellm` LiteLLM's proxy is asked the same, before the same server, in an environment of its own.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.clients.table import CLIENTS
from tests.load.dialects import CLIENTS as AT_ONCE
from tests.load.dialects import LONG, SECONDS, SHORT, TOKENS, asked, per_token, processor_seconds, rate
from tests.support.rawhttp import RawHTTP
from tests.support.service import Service, free_port

SETTINGS = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
PLACES = {f"{SETTINGS}PLACES": "64"}
CHAT = "/v1/chat/completions"
_LEAVES = 50


def median_ms(connections: dict[str, RawHTTP], rounds: int) -> dict[str, float]:
    """Ask by turns; return each median in milliseconds."""
    message = asked(CHAT, SHORT, stream=False)
    taken: dict[str, list[float]] = {name: [] for name in connections}
    for _ in range(rounds):
        for name, connection in connections.items():
            begun = time.perf_counter()
            answer = connection.send(message).answer()
            taken[name].append(time.perf_counter() - begun)
            if answer.status != 200:
                raise SystemExit(f"{name}: {answer.status}: {answer.body[:200]!r}")
    return {name: statistics.median(found[rounds // 10 :]) * 1e3 for name, found in taken.items()}


def rates(ports: dict[str, int], rounds: int) -> dict[str, float]:
    """Count the small answers a second of each, by turns; return each median."""
    message = asked(CHAT, SHORT, stream=False)
    found = [{name: rate(port, message) for name, port in ports.items()} for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in found) for name in ports}


def litellm_per_token(process: psutil.Process, port: int, rounds: int) -> float:
    """Return the microseconds of a streamed token in all processes of the proxy."""

    def spent(text: str) -> float:
        family = [process, *process.children(recursive=True)]
        before = sum(map(processor_seconds, family))
        with RawHTTP(port, 120) as connection:
            connection.send(asked(CHAT, text, stream=True)).answer()
        return sum(map(processor_seconds, family)) - before

    spent(LONG)
    return min(spent(LONG) - spent(SHORT) for _ in range(rounds)) / (TOKENS - 1) * 1e6


class NoProxyError(Exception):
    """LiteLLM's proxy does not run here; the message has its last words."""


class LeftServer:
    """Begins a stream for each client, goes on slowly, and notes when the client has left."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.left: list[float] = []
        self.heard = threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(head + b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
                while connection.recv(65_536):
                    pass
                self.left.append(time.perf_counter())
                self.heard.release()


def leaves() -> list[float]:
    """Leave in the middle of so many answers; return the milliseconds until the server behind the service knows."""
    server = LeftServer()
    settings = {"BASE_URL": f"http://127.0.0.1:{server.port}/v1", "SERVER": "openai", "MODELS": '{"echo": "echo"}'}
    taken = []
    with Service(ENGINE="openai", **{f"{SETTINGS}{name}": value for name, value in settings.items()}) as service:
        for _ in range(_LEAVES):
            with RawHTTP(service.port) as connection:
                connection.send(asked(CHAT, SHORT, stream=True)).read_until(b'"a"')
                begun = time.perf_counter()
            if not server.heard.acquire(timeout=30):
                raise SystemExit("the server behind the service was not told that a client had left")
            taken.append((server.left[-1] - begun) * 1e3)
    return taken


@contextmanager
def litellm(url: str) -> Iterator[tuple[psutil.Process, int]]:
    """Run LiteLLM's proxy before a server, in an environment of its own; yield its process and its port."""
    version = CLIENTS["litellm"].package.partition("==")[2]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["uvx", "--python", python, "--from", f"litellm[proxy]=={version}", "litellm"]
    port = free_port()
    arguments = ["--model", "openai/echo", "--api_base", url, "--host", "127.0.0.1", "--port", str(port)]
    foreign = ("OPENAI_", "LITELLM_", "DATABASE_", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {"OPENAI_API_KEY": "none", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    # Without a key, as the service beside it: on the loopback, and for a minute.
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(folder, "log").open("wb") as log,
        subprocess.Popen(
            [*command, *arguments], cwd=folder, env=environment, stdout=log, stderr=log, process_group=0
        ) as proxy,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health/liveliness", proxy, Path(folder, "log"))
            yield psutil.Process(proxy.pid), port
        finally:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(proxy.pid, signal.SIGTERM)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise NoProxyError(f"LiteLLM's proxy does not come up:\n{log.read_text(errors='replace')[-2000:]}")


def measure_upstream(rounds: int, *, with_litellm: bool) -> None:
    """Measure and print; exit with 1 behind all the rest where LiteLLM's proxy was to be measured and does not run."""
    proxy, missing = None, ""
    window = {f"{SETTINGS}CONTEXT_WINDOW": "8192"}
    with Service(**PLACES, **window) as server, ExitStack() as stack:
        url = f"{server.url}/v1"
        service = stack.enter_context(Service(ENGINE="openai", **PLACES, **{f"{SETTINGS}BASE_URL": url}))
        ports = {"its server": server.port, "openai": service.port}
        if with_litellm:
            try:
                proxy = stack.enter_context(litellm(url))
                ports["LiteLLM"] = proxy[1]
            except NoProxyError as error:
                missing = str(error)
        connections = {name: stack.enter_context(RawHTTP(port, 120)) for name, port in ports.items()}
        milliseconds = median_ms(connections, rounds)
        answers = rates(ports, 3)
        token = {"openai": per_token(service, CHAT, 3)}
        if proxy is not None:
            token["LiteLLM"] = litellm_per_token(*proxy, 2)
    print(f"\nthe engine openai before an echo, {AT_ONCE} clients at once, {SECONDS:g} s each")
    direct, own = milliseconds["its server"], answers["its server"]
    for name in ports:
        added = "" if name == "its server" else f" (+{milliseconds[name] - direct:.3f})"
        part = "" if name == "its server" else f" ({answers[name] / own:.0%})"
        told = f"{token[name]:6.1f} µs a streamed token" if name in token else ""
        print(f"{name:12} {milliseconds[name]:7.3f} ms{added:10} {answers[name]:6.0f} a second{part:7} {told}")
    taken = leaves()
    print(
        f"a client that leaves is known to the server after {statistics.median(taken):.1f} ms, {max(taken):.1f} at most"
    )
    if missing:
        raise SystemExit(missing)
