"""Starts servers and asks them; each ends with its context, and what it started with it."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from msgspec import Struct

from gateway.cli.bench.client import Client
from gateway.cli.bench.plan import Plan
from gateway.cli.bench.sample import Sample
from gateway.engine import Engine
from gateway.engine import load as load_plugin
from gateway_hf.scheduling.drafter import Drafter
from tests.load.engine import ask_engine
from tests.load.peers.samples import Asks, Load, ask_each, heard
from tests.support.service import Service

# Seconds until a server is ready: vLLM compiles for two minutes on two cores.
_START = 420
_END = 20
_FAR = 120
# Nothing of these reaches the net, and nothing is sent to those that make them.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",
}


class NotStarted(Exception):
    """A server that did not become ready, or was lost; the message says why."""


class RunningServer(Struct):
    """A server that is ready, its process, and what its log says last."""

    server: Asks
    pid: int
    said: Callable[[], str]

    def check(self) -> None:
        """Raise `NotStarted` where its process has ended."""
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(self.pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return
        raise NotStarted(f"its process has ended: {self.said()}")


class HttpServer:
    """A server with OpenAI's completions at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self, prompts: Sequence[str], clients: int, load: Load) -> list[Sample]:
        """Have so many clients send these prompts."""
        plan = Plan(url=self._url, levels=(), api="completions", output_tokens=load.tokens, timeout=load.seconds + _FAR)
        async with _PromptClient(plan) as client:
            client.leave_connections()
            return await ask_each(client.ask_text, prompts, clients, load)


class _PromptClient(Client):
    """The client of `llm-gateway bench`, with prompts of another kind."""

    def leave_connections(self) -> None:
        """Have a connection for each request: llama-server closes one behind a stream without saying so before."""
        self._session.headers["connection"] = "close"

    async def ask_text(self, prompt: str) -> Sample:
        self._prompts = _One(prompt)  # read before the first wait
        return await self.ask(0)


class _One:
    """The one prompt of a request."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    def text(self, _: int) -> str:
        return self._prompt


class PipelineProcess:
    """OpenVINO GenAI in a process of its own, asked line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, told: dict[str, object], seconds: float) -> object:
        """Return the answer to one line; raise `NotStarted` where none comes within `seconds`."""
        ending = threading.Timer(seconds, self._process.kill)
        ending.start()
        try:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(told) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            ending.cancel()
        if not line:
            raise NotStarted("its process has ended")
        return json.loads(line)

    async def run(self, prompts: Sequence[str], clients: int, load: Load) -> list[Sample]:
        """Have so many clients send these prompts."""
        asked = {"prompts": list(prompts), "clients": clients, "tokens": load.tokens, "seconds": load.seconds}
        answers = await asyncio.to_thread(self.ask, asked, load.seconds + _FAR)
        return [heard(each) for each in answers]


@contextmanager
def serve(command: list[str], port: int, path: str, log: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run a server until it answers `path` with 200, and end it; yield its process id. Raise `NotStarted`."""
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            stdout=written,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_environment() | environment,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}{path}", log)
        yield process.pid
    finally:
        end(process)


@contextmanager
def pipeline(command: list[str], told: dict[str, object], log: Path) -> Iterator[RunningServer]:
    """Run OpenVINO GenAI until it has loaded the model that it is told of, and end it. Raise `NotStarted`."""
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, text=True, env=_environment()
        )
    try:
        found = PipelineProcess(process)
        try:
            found.ask(told, _START)
        except NotStarted as error:
            raise NotStarted(f"{error}: {last_words(log)}") from error
        yield RunningServer(found, process.pid, lambda: last_words(log))
    finally:
        end(process)


@contextmanager
def own_service(settings: dict[str, object]) -> Iterator[RunningServer]:
    """Start the service as `llm-gateway` does, until it is ready. Raise `NotStarted`."""
    more = {"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS": json.dumps(settings)}
    more["LLM_GATEWAY__ADMISSION__QUEUE_SECONDS"] = str(_FAR)
    try:
        with Service(ENGINE="hf", ready=False, **more) as service:
            service.wait_for("/readyz", seconds=_START)
            yield RunningServer(HttpServer(service.url), service.process.pid, lambda: _last(service.output))
    except (RuntimeError, TimeoutError) as error:
        raise NotStarted(_last(str(error))) from error


@contextmanager
def own_engine(settings: dict[str, object]) -> Iterator[RunningServer]:
    """Start the engine in a process of its own, without HTTP and without guesses."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        pid = process.submit(_EngineAlone.open, settings).result()
        try:
            yield RunningServer(_EngineProcess(process), pid, lambda: "it is the engine alone")
        finally:
            with suppress(BrokenExecutor):
                process.submit(_EngineAlone.close).result()


class _EngineProcess:
    """The engine alone, asked from the process that measures."""

    def __init__(self, process: ProcessPoolExecutor) -> None:
        self._process = process

    async def run(self, prompts: Sequence[str], clients: int, load: Load) -> list[Sample]:
        """Have so many clients send these prompts."""
        return await asyncio.wrap_future(self._process.submit(_EngineAlone.ask, prompts, clients, load))


class _EngineAlone:
    """The engine of this process, and the loop that it runs in."""

    engine: Engine
    runner: asyncio.Runner

    @classmethod
    def open(cls, settings: dict[str, object]) -> int:
        """Enter the engine; return the process id."""
        Drafter.propose = lambda *_: []  # type: ignore[method-assign]
        plugin = load_plugin("hf")
        cls.engine, cls.runner = plugin.build(plugin.settings(**settings)), asyncio.Runner()
        cls.runner.run(cls.engine.__aenter__())
        return os.getpid()

    @classmethod
    def ask(cls, prompts: Sequence[str], clients: int, load: Load) -> list[Sample]:
        """Have so many clients send these prompts."""

        async def one(text: str) -> Sample:
            return await ask_engine(cls.engine, text, None, load.tokens)

        return cls.runner.run(ask_each(one, prompts, clients, load))

    @classmethod
    def close(cls) -> None:
        """Leave the engine."""
        cls.runner.run(cls.engine.__aexit__(None, None, None))
        cls.runner.close()


def resident(pid: int) -> int:
    """Return the bytes of a process and of those that it started, each its share of what several have."""
    found = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                found += each.memory_full_info().pss
    return found


def end(process: subprocess.Popen) -> None:
    """End a process and those that it started, by their ids: first asked to, then killed."""
    started: list[psutil.Process] = []
    with suppress(psutil.Error):
        started = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END)
    if process.poll() is None:
        process.kill()
    process.wait()
    for each in psutil.wait_procs(started, 3)[1]:
        with suppress(psutil.Error):
            each.kill()


def last_words(log: Path) -> str:
    """Return the last line of a log that says something of an error, else the last."""
    return _last(log.read_text(errors="replace"))


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if "rror" in line]
    return (wrong or lines or ["it said nothing"])[-1][-300:]


def _environment() -> dict[str, str]:
    own = ("PYTHONPATH", "VIRTUAL_ENV", "LLM_GATEWAY", "VLLM_", "OPENAI_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | _QUIET


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotStarted(f"it ended with {process.returncode}: {last_words(log)}")
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise NotStarted(f"not ready within {_START} s: {last_words(log)}")
