"""Engine processes, owned by the supervisor so that they survive a worker restart."""

import asyncio
import contextlib
import os
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Self

import loguru
import msgspec
from msgspec import Struct

from gateway.config import Config
from gateway.engine import MalformedFrame
from gateway.flow.tasks import Tasks
from gateway.isolation import EngineProcess, PrivateFolder, ProcessSpec
from gateway.isolation.wire import Frames, pack
from gateway.linux import peer_is_this_user, peer_pid
from gateway.supervisor.console import console
from gateway.supervisor.protocol import (
    Announce,
    Command,
    Drain,
    Drained,
    EnginesSettled,
    LogLine,
    NoEngineLoads,
    ProcessesThere,
    ProcessStarted,
    ProcessStopped,
    Reload,
    StartFailed,
    StartProcess,
    StopProcess,
    UpToDate,
    WorkerBeat,
    read_command,
)

_PIECE = 2**16
_LINES = 1_000
# A worker that reads nothing is stopped or hangs; lines wait for its successor then.
_MOST_BYTES = 2**20
_DUMP_SECONDS = 0.25


class EngineProcesses:
    """Runs engine processes for successive workers, and forwards their output to the log of the current one."""

    def __init__(
        self,
        on_hopeless: Callable[[dict[str, str]], None],
        on_worker: Callable[[], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._on_hopeless = on_hopeless
        self._on_worker = on_worker
        self._on_settled = on_settled
        self._processes: dict[str, tuple[ProcessSpec, EngineProcess]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.beats = 0
        self._worker: asyncio.StreamWriter | None = None
        self._backlog: deque[LogLine] = deque(maxlen=_LINES)
        self._lost = 0
        self._reload: Reload | None = None
        self._is_announced = False
        self._drained: asyncio.Event | None = None
        self._tasks = Tasks()
        self._folder = PrivateFolder()
        self.folder = self._folder.path
        self.path = self._folder.file("control")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._tasks.end()
        await asyncio.gather(*[process.kill() for _, process in self._processes.values()])
        self._folder.remove()
        self._print_backlog()

    def prepare(self, specs: Iterable[ProcessSpec]) -> None:
        """Start the processes that the worker will ask for, before it asks."""
        for spec in specs:
            self._tasks.start(self._prepare(spec))

    def detach(self) -> None:
        """Forget the worker, after the server has ended, and print the lines that it has not logged."""
        self._worker = None
        self._print_backlog()

    @property
    def has_worker(self) -> bool:
        """Whether a worker is connected."""
        return self._worker is not None

    async def end_worker(self) -> None:
        """Kill the worker, after a dump of its stacks where it can make one; the next worker logs what follows."""
        if self._worker is None:
            return
        pid = peer_pid(self._worker.get_extra_info("socket"))
        self._forget_worker()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGABRT)
            await asyncio.sleep(_DUMP_SECONDS)
            os.kill(pid, signal.SIGKILL)

    def announce(self) -> None:
        """Have this worker and its successors say that the service goes down, while they still take requests."""
        self._is_announced = True
        self._send(Announce())

    async def drain(self) -> None:
        """Have this worker and its successors refuse new requests; return when the last request has ended."""
        self._drained = asyncio.Event()
        if self._worker is not None:
            self._send(Drain())
            await self._drained.wait()

    def reload(self, config: Config) -> None:
        """Put another configuration into force in this worker and its successors."""
        self._reload = Reload(config)
        self._send(self._reload)

    def say(self, message: "loguru.Message") -> None:
        """Send a record to the worker's log, or keep it until a worker takes it; too many are counted."""
        record = message.record
        extra = {key: value if type(value) is float else str(value) for key, value in record["extra"].items()}
        line = LogLine(record["level"].name, record["message"], extra)
        if self._worker is not None and self._worker.transport.get_write_buffer_size() < _MOST_BYTES:
            for waiting in (*self._take_backlog(), line):
                self._send(waiting)
            return
        self._lost += len(self._backlog) == _LINES
        self._backlog.append(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read commands of the worker until it disconnects."""
        if not peer_is_this_user(writer.get_extra_info("socket")):
            writer.close()
            return
        self._worker = writer
        self._on_worker()
        for line in self._take_backlog():
            self._send(line)
        if self._reload is not None:
            self._send(self._reload)
        if self._is_announced:
            self._send(Announce())
        if self._drained is not None:
            self._send(Drain())
        self._send(ProcessesThere(tuple(name for name, (_, each) in self._processes.items() if each.is_running)))
        self._send(UpToDate())
        frames = Frames()
        try:
            while piece := await reader.read(_PIECE):
                for body in frames.feed(piece):
                    self._take(read_command(body))
        except (OSError, MalformedFrame, msgspec.MsgspecError):
            pass
        finally:
            if self._worker is writer:
                self._forget_worker()
            writer.close()

    def _take(self, command: Command) -> None:
        match command:
            case StartProcess(call, spec):
                self._tasks.start(self._answer_start(call, spec))
            case StopProcess():
                self._tasks.start(self._answer_end(command))
            case WorkerBeat():
                self.beats += 1
            case NoEngineLoads(reasons):
                self._on_hopeless(reasons)
            case EnginesSettled():
                self._on_settled()
            case Drained():
                self._note_drained()

    def _forget_worker(self) -> None:
        self._worker = None
        self._note_drained()

    def _note_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()

    def _print_backlog(self) -> None:
        if lines := self._take_backlog():
            console.print(*(f"llm-gateway: {line.text}" for line in lines))

    def _take_backlog(self) -> list[LogLine]:
        """Return the lines that wait, and how many did not fit."""
        lines, lost = list(self._backlog), self._lost
        self._backlog.clear()
        self._lost = 0
        if lost:
            text = f"{lost} lines of the log were lost: no worker took them in time"
            lines.append(LogLine("WARNING", text, {"event": "log_lost", "lines": float(lost)}))
        return lines

    async def _prepare(self, spec: ProcessSpec) -> None:
        with contextlib.suppress(OSError):  # the worker will ask, and be told
            await self._start(spec)

    async def _answer_start(self, call: int, spec: ProcessSpec) -> None:
        try:
            process = await self._start(spec)
        except OSError as error:
            self._send(StartFailed(call, str(error)))
        else:
            self._send(ProcessStarted(call, process.pid, process.path))

    async def _start(self, spec: ProcessSpec) -> EngineProcess:
        async with self._locks[spec.name]:
            known, process = self._processes.get(spec.name, (None, None))
            if process is not None:
                if known == spec and process.is_running:
                    return process
                del self._processes[spec.name]
                await process.kill()
            process = await EngineProcess.start(spec)
            self._processes[spec.name] = spec, process
            return process

    async def _answer_end(self, command: StopProcess) -> None:
        found = next((item for item in self._processes.items() if item[1][1].pid == command.pid), None)
        if found is None:
            self._send(ProcessStopped(command.call, "is gone"))
            return
        name, (_, process) = found
        if command.how == "dump":
            await process.dump()
            self._send(ProcessStopped(command.call, ""))
            return
        del self._processes[name]
        if command.how == "leave":
            await process.leave()
        self._send(ProcessStopped(command.call, await process.kill()))

    def _send(self, reply: Struct) -> None:
        if self._worker is not None:
            self._worker.write(pack(reply))
