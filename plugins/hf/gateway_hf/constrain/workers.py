"""Have constraints compiled and answers checked in processes that can be ended, from any thread of the engine."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import msgspec
from msgspec import Struct, structs

from gateway.engine import EngineError
from gateway_hf.constrain.jobs import Hello, Job, JobResult, Nursing, receive, send

_log = logging.getLogger("gateway_hf")

# A budget is of processor time: a busy machine may take so many times as long. To start takes seconds more.
_PATIENCE = 20.0
_START = 60.0
# What is compiled sooner has a share of the processor; the rest has what the model leaves.
_SOON = 0.1
_LAST = 15


class Worker(Struct):
    """A process that does one job at a time, and the socket that it is asked at."""

    channel: socket.socket
    pid: int = 0

    def answer(self) -> JobResult:
        """Wait for the result of the job; from a process that had to give way, it is the last: none can come back."""
        if not self.pid:
            self.pid = msgspec.msgpack.decode(receive(self.channel), type=Hello).pid
        gave_way = not self._is_there(_SOON)
        if gave_way:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.pid, _LAST)
        result = msgspec.msgpack.decode(receive(self.channel), type=JobResult)
        return structs.replace(result, last=result.last or gave_way)

    def _is_there(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        return bool(poll.poll(seconds * 1e3))


class OverBudgetError(Exception):
    """A job took more time or memory than it may; its process has ended."""


class Workers:
    """Processes that do one job at a time each; there are as many as threads that ask at once.

    The first job starts them, or `start` before it, which takes about a second of another core.
    """

    def __init__(self, nursing: Nursing) -> None:
        self._nursing = nursing
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def run(self, job: Job) -> JobResult:
        """Have a job done; raise `OverBudgetError`, or `EngineError` where no process can be had."""
        worker = self._take()
        try:
            send(worker.channel, job)
            result = worker.answer()
        except (EOFError, OSError) as error:
            worker.channel.close()
            if isinstance(error, TimeoutError) and worker.pid:  # it runs, and has no more than a trickle to run in
                with suppress(OSError):
                    os.kill(worker.pid, signal.SIGKILL)
            raise OverBudgetError(f"more than {self._nursing.budget}") from error
        with self._lock:
            if result.last or self._closed:
                worker.channel.close()
            else:
                self._idle.append(worker)
        return result

    def start(self) -> None:
        """Start the first process, unless it runs; raise `EngineError` where that cannot be."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """End all processes, and wait for the first."""
        with self._lock:
            self._closed = True
            for worker in self._idle:
                worker.channel.close()
            self._idle.clear()
            self._end()

    def _take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            control = self._start()
            ours, theirs = socket.socketpair()
            ours.settimeout(_START + _PATIENCE * self._nursing.budget.seconds)
            try:
                with theirs:
                    socket.send_fds(control, [b"w"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise EngineError("the process that compiles constraints has ended; try again") from error
            return Worker(ours)

    def _start(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        if self._closed:
            raise EngineError("the model is being unloaded")
        if self._process is not None:
            _log.error("the process that compiles constraints has ended by itself; another one is started")
            self._end()
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "gateway_hf.constrain.nursery", str(theirs.fileno())]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            send(self._control, self._nursing)
        except OSError as error:
            self._end()
            raise EngineError("the process that compiles constraints cannot be started; try again") from error
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            self._process.kill()
            self._process.wait()
        self._control = self._process = None
