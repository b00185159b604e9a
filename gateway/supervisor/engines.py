"""The engines' processes, in the supervisor: they outlive the worker that asked for them."""

import asyncio
import shutil
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import loguru
import msgspec
from msgspec import Struct

from gateway.config import Config
from gateway.flow.tasks import Tasks
from gateway.isolation import EngineProcess, ProcessSpec
from gateway.isolation.wire import Frames, MalformedFrame, pack
from gateway.linux import peer_is_this_user
from gateway.supervisor.protocol import (
    Command,
    Drain,
    Drained,
    LogLine,
    NoEngineLoads,
    ProcessStarted,
    ProcessStopped,
    Reload,
    StartFailed,
    StartProcess,
    StopProcess,
    read_command,
)

_PIECE = 2**16
_LINES = 1_000


class EngineProcesses:
    """Runs processes for one worker after another, each by its recipe; what they say goes to the worker's log."""

    def __init__(self, on_hopeless: Callable[[dict[str, str]], None]) -> None:
        self._on_hopeless = on_hopeless
        self._processes: dict[str, tuple[ProcessSpec, EngineProcess]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._worker: asyncio.StreamWriter | None = None
        self._backlog: deque[LogLine] = deque(maxlen=_LINES)
        self._reload: Reload | None = None
        self._drained: asyncio.Event | None = None
        self._tasks = Tasks()
        self._folder = tempfile.mkdtemp(prefix="llm-gateway-")
        self.path = str(Path(self._folder, "control"))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._tasks.end()
        await asyncio.gather(*[process.kill() for _, process in self._processes.values()])
        shutil.rmtree(self._folder, ignore_errors=True)
        self._print_backlog()

    def prepare(self, recipes: Iterable[ProcessSpec]) -> None:
        """Start processes that the worker will ask for, while it starts itself."""
        for recipe in recipes:
            self._tasks.start(self._prepare(recipe))

    def detach(self) -> None:
        """Expect no worker to listen: the server has ended. The lines that none has logged are printed."""
        self._worker = None
        self._print_backlog()

    async def drain(self) -> None:
        """Have the worker, and each that takes its place, refuse new requests; return when the last one has ended."""
        self._drained = asyncio.Event()
        if self._worker is not None:
            self._send(Drain())
            await self._drained.wait()

    def reload(self, config: Config) -> None:
        """Tell the worker, and each that will take its place, to go by another configuration."""
        self._reload = Reload(config)
        self._send(self._reload)

    def say(self, message: "loguru.Message") -> None:
        """Put a line into the worker's log, or keep it until there is one."""
        record = message.record
        extra = {key: value if type(value) is float else str(value) for key, value in record["extra"].items()}
        said = LogLine(record["level"].name, record["message"], extra)
        if self._worker is None:
            self._backlog.append(said)
        else:
            self._send(said)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Listen to the worker, until it is gone."""
        if not peer_is_this_user(writer.get_extra_info("socket")):
            writer.close()
            return
        self._worker = writer
        while self._backlog:
            self._send(self._backlog.popleft())
        if self._reload is not None:
            self._send(self._reload)
        if self._drained is not None:
            self._send(Drain())
        frames = Frames()
        try:
            while piece := await reader.read(_PIECE):
                for body in frames.feed(piece):
                    self._take(read_command(body))
        except (OSError, MalformedFrame, msgspec.MsgspecError):
            pass
        finally:
            if self._worker is writer:
                self._worker = None
                self._note_drained()
            writer.close()

    def _take(self, wish: Command) -> None:
        match wish:
            case StartProcess(call, recipe):
                self._tasks.start(self._answer_start(call, recipe))
            case StopProcess():
                self._tasks.start(self._answer_end(wish))
            case NoEngineLoads(reasons):
                self._on_hopeless(reasons)
            case Drained():
                self._note_drained()

    def _note_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()

    def _print_backlog(self) -> None:
        while self._backlog:
            print(f"llm-gateway: {self._backlog.popleft().text}", file=sys.stderr, flush=True)

    async def _prepare(self, recipe: ProcessSpec) -> None:
        try:
            await self._start(recipe)
        except OSError:
            return  # the worker will ask, and be told

    async def _answer_start(self, call: int, recipe: ProcessSpec) -> None:
        try:
            process = await self._start(recipe)
        except OSError as error:
            self._send(StartFailed(call, str(error)))
        else:
            self._send(ProcessStarted(call, process.pid, process.path))

    async def _start(self, recipe: ProcessSpec) -> EngineProcess:
        async with self._locks[recipe.name]:
            known, process = self._processes.get(recipe.name, (None, None))
            if process is not None:
                if known == recipe and process.is_running:
                    return process
                del self._processes[recipe.name]
                await process.kill()
            process = await EngineProcess.start(recipe)
            self._processes[recipe.name] = recipe, process
            return process

    async def _answer_end(self, wish: StopProcess) -> None:
        found = next((item for item in self._processes.items() if item[1][1].pid == wish.pid), None)
        if found is None:
            self._send(ProcessStopped(wish.call, "is gone"))
            return
        name, (_, process) = found
        if wish.how == "dump":
            await process.dump()
            self._send(ProcessStopped(wish.call, ""))
            return
        del self._processes[name]
        if wish.how == "leave":
            await process.leave()
        self._send(ProcessStopped(wish.call, await process.kill()))

    def _send(self, word: Struct) -> None:
        if self._worker is not None:
            self._worker.write(pack(word))
