"""Deaths, stops and reloads, and each resource made short while something dies."""

import json
import os
import resource
import signal
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from gateway.linux import resident_bytes
from tests.attack.table import attack
from tests.attack.target import INODES, MIB, Target
from tests.attack.transport import typed
from tests.attack.verdict import AGAIN
from tests.chaos.row import Row, at_most, none_of
from tests.support.observe import eventually
from tests.support.processes import descendants, engines, is_alive, open_files, worker
from tests.support.service import Service

_BACK_SECONDS = 40.0
# Seconds until there is a worker again. One that dies is forked anew within one; where it dies within 5.5 s of the last
# one, the server ends too, and starts once its imports are done: at once, or after a second if another one has ended.
_REPLACED = 5.0
_HUNG = 30.0 * 21 / 20 + 0.5 + 0.25 + _REPLACED  # `server.hang_seconds` in twentieths, a heartbeat, and the dump
_SHORT_SECONDS = 2.0  # of no descriptor: the main process tries again after 1 s, then after twice as long
_SHORT = 2 * _SHORT_SECONDS + 1.0 + _REPLACED
_BODY = {"model": "scripted", "prompt": "hello", "max_new_tokens": 4, "return_full_text": False}


def back(target: Target, model: str = "scripted") -> Row:
    """Wait until a model answers again, and say how long that took."""
    began, status = time.monotonic(), 0
    while time.monotonic() - began < _BACK_SECONDS:
        with suppress(httpx.HTTPError, OSError):
            status = target.post("/v1/generate", _BODY | {"model": model}).status_code
            if status == 200:
                break
        time.sleep(0.1)
    seconds = time.monotonic() - began
    return Row(f"{model} {AGAIN}", f"<= {_BACK_SECONDS:g} s", f"{status} after {seconds:.1f} s", status == 200)


def _scripted(target: Target) -> int:
    """Find the process of the scripted engine: the smallest of the engines."""
    return min(engines(target.main), key=lambda pid: resident_bytes(pid) or 0)


@attack(seconds=6.0)
def engine_deaths(target: Target) -> Iterator[Row]:
    """Kill an engine three times while it answers."""
    answers = []
    for _ in range(3):
        with _flow(target, answers):
            os.kill(_scripted(target), signal.SIGKILL)
            yield back(target)
    yield typed(answers)


@attack(seconds=8.0)
def engine_stopped(target: Target) -> Iterator[Row]:
    """Stop an engine in the middle of answers."""
    os.kill(_scripted(target), signal.SIGSTOP)
    yield back(target)


@attack(seconds=10.0)
def engine_dies_without_descriptors(target: Target) -> Iterator[Row]:
    """Leave the main process no descriptor while an engine dies."""
    with _no_descriptors(target.main):
        os.kill(_scripted(target), signal.SIGKILL)
        time.sleep(4.0)
    yield back(target)


@attack(seconds=10.0)
def engine_dies_without_space(target: Target) -> Iterator[Row]:
    """Fill the temp folder while an engine dies."""
    tmp = target.folder / "tmp"
    if not os.path.ismount(tmp):
        yield Row("not run: this user may mount nothing", "", "", holds=True)
        return
    made = []
    with suppress(OSError):
        for number in range(2 * INODES):
            made.append(tmp / f"full-{number}")
            made[-1].touch()
    os.kill(_scripted(target), signal.SIGKILL)
    time.sleep(4.0)
    for file in made:
        file.unlink(missing_ok=True)
    yield back(target)


@attack(away=_REPLACED, seconds=8.0)
def worker_deaths(target: Target) -> Iterator[Row]:
    """Kill the worker twice while it answers; the engines stay."""
    before = set(engines(target.main))
    for _ in range(2):
        target.interrupt(signal.SIGKILL)
        yield back(target, "echo")
        time.sleep(1.0)
    yield none_of("engines that were loaded again", len(before - set(engines(target.main))), len(before))


@attack(away=_HUNG, seconds=40.0)
def worker_stopped(target: Target) -> Iterator[Row]:
    """Stop the worker: it answers nothing, and is alive."""
    stopped = target.interrupt(signal.SIGSTOP)
    yield back(target, "echo")
    if is_alive(stopped):
        os.kill(stopped, signal.SIGKILL)
        yield Row("a stopped worker", "is replaced", "was not", holds=False)
    yield back(target, "tiny")


@attack(away=_SHORT, seconds=8.0)
def worker_dies_without_descriptors(target: Target) -> Iterator[Row]:
    """Leave the main process no descriptor while the worker dies."""
    with _no_descriptors(target.main):
        target.interrupt(signal.SIGKILL)
        time.sleep(_SHORT_SECONDS)
    yield back(target, "echo")


@attack(seconds=5.0)
def reloads(target: Target) -> Iterator[Row]:
    """Reload as often as it goes."""
    count = 0
    while target.goes_on:
        target.service.process.send_signal(signal.SIGHUP)
        count += 1
        time.sleep(0.02)
    yield Row("reloads", "", str(count), holds=True)
    yield back(target)


@attack(seconds=6.0)
def key_file_locked(target: Target) -> Iterator[Row]:
    """Hold the key file locked, as a backup or a stuck command would."""
    lock = sqlite3.connect(target.folder / "keys.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    answers = []
    while target.goes_on:
        answers += target.many(4, lambda _: target.post("/v1/generate", _BODY, seconds=20))
    lock.execute("ROLLBACK")
    lock.close()
    yield typed(answers)


@attack(seconds=6.0)
def key_file_a_pipe(target: Target) -> Iterator[Row]:
    """Put a pipe in the place of the key file, and the file back."""
    file, kept = target.folder / "keys.db", target.folder / "keys.kept"
    file.rename(kept)
    os.mkfifo(file, 0o600)
    answers = []
    while target.goes_on:
        answers += target.many(4, lambda _: target.post("/v1/generate", _BODY, seconds=20))
    kept.replace(file)
    yield typed(answers)
    yield back(target)


@attack(seconds=20.0)
def main_killed(target: Target) -> Iterator[Row]:
    """Kill the main process: nothing of it lives on, and the next start finds nothing of it."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        environment = {"TMPDIR": folder, "LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true"}
        with Service(**environment) as service:
            pids = descendants(service.process.pid)
            service.process.kill()
            time.sleep(1.0)
            yield none_of("processes left after a second", sum(map(is_alive, pids)), len(pids))
        with Service(**environment):
            pass
        left = [entry.name for entry in Path(folder).iterdir() if entry.name.startswith("llm-gateway")]
        yield Row("left in the temp folder after the next run", "nothing", ", ".join(left) or "nothing", not left)


@attack(seconds=20.0)
def log_never_read(target: Target) -> Iterator[Row]:
    """Fill the pipe of the log, and kill the worker: another one comes, and the end is no later."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b".")
    os.set_blocking(writer, True)
    with Service(stdout=writer, LOG_LEVEL="DEBUG") as service:
        os.kill(worker(service.process.pid), signal.SIGKILL)
        began = time.monotonic()
        with suppress(TimeoutError):
            eventually(lambda: _is_ready(service), 20)
        yield at_most("a worker again after", time.monotonic() - began, 10, " s")
        began = time.monotonic()
        service.process.terminate()
        with suppress(Exception):
            service.process.wait(20)
        yield at_most("SIGTERM to the end", time.monotonic() - began, 10, " s")
    os.close(reader)
    os.close(writer)


@attack(seconds=20.0)
def many_keys(target: Target) -> Iterator[Row]:
    """Configure fifteen hundred keys, reload, and kill the worker."""
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        file = Path(folder, "gateway.toml")
        entries = (f'k{n} = {{ sha256 = "{n:064x}" }}' for n in range(1_500))
        file.write_text('[engines.default]\nplugin = "echo"\n[auth.keys]\n' + "\n".join(entries))
        with Service("--config", str(file)) as service:
            service.process.send_signal(signal.SIGHUP)
            time.sleep(1.0)
            os.kill(worker(service.process.pid), signal.SIGKILL)
            time.sleep(0.5)
            answer = service.wait_for("/livez", seconds=20)
            yield Row("/livez of the next worker", "200", str(answer.status_code), answer.status_code == 200)


@attack(seconds=12.0)
def endless_collector(target: Target) -> Iterator[Row]:
    """Send traces to a collector whose answer never ends."""
    with _endless() as port, Service(LLM_GATEWAY__TELEMETRY__OTLP_ENDPOINT=f"http://127.0.0.1:{port}") as service:
        before, most = resident_bytes(worker(service.process.pid)) or 0, 0
        for _ in range(80):
            service.generate(prompt="a b c")
            most = max(most, resident_bytes(worker(service.process.pid)) or 0)
            time.sleep(0.1)
        yield at_most("worker's memory, most", most / MIB, 250, " MiB")
        yield at_most("worker's memory, more than before", (most - before) / MIB, 30, " MiB")


def _is_ready(service: Service) -> bool:
    with suppress(httpx.HTTPError):
        return service.client.get("/readyz").status_code == 200
    return False


@contextmanager
def _flow(target: Target, answers: list[object]) -> Iterator[None]:
    """Keep asking the scripted engine meanwhile."""
    script = json.dumps({"script": {"texts": ["tick "] * 20, "delay": 0.01}})
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.extend(target.many(4, lambda n: target.post("/v1/generate", _BODY | {"prompt": script, "seed": n})))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _no_descriptors(pid: int) -> Iterator[None]:
    """Lower a process's limit of descriptors to those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def _endless() -> Iterator[int]:
    """Serve answers without an end."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"\0" * 65_536 + b"\r\n"

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(head)
            while True:
                connection.sendall(chunk)

    def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, answer), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
