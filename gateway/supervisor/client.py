"""The worker's connection to the supervisor, which runs engine processes for it and tells it to reload and to drain."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from loguru import logger

from gateway.config import Config
from gateway.flow.tasks import Tasks
from gateway.isolation import ProcessSpec
from gateway.isolation.wire import Frames, pack
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
    SupervisorReply,
    UpToDate,
    WorkerBeat,
    read_reply,
)

ReloadWork = Callable[[Config], Awaitable[None]]
AnnounceWork = Callable[[], None]
DrainWork = Callable[[], Awaitable[None]]

_PIECE = 2**16
_BEAT_SECONDS = 0.5


class _Orders(NamedTuple):
    """What the worker does when the supervisor says so."""

    reload: ReloadWork
    announce: AnnounceWork
    drain: DrainWork


class SupervisorClient:
    """Sends commands to the supervisor, and carries out its orders."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._calls = itertools.count(1)
        self._asked: dict[int, asyncio.Future[ProcessStarted | ProcessStopped | StartFailed]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._tasks = Tasks()
        self._is_told = asyncio.Event()
        self._there: tuple[str, ...] = ()

    @asynccontextmanager
    async def listen(self, reload: ReloadWork, announce: AnnounceWork, drain: DrainWork) -> AsyncGenerator[None, None]:
        """Listen to the supervisor while the block runs, which begins when its earlier orders are carried out.

        Clients may be waiting at the port already: a worker that comes during a drain must not serve the first of them.
        `reload` puts another configuration into force; `announce` has probes say that the service goes down; `drain`
        refuses new requests, and returns when the last one has ended.
        """
        reader, self._writer = await asyncio.open_unix_connection(self._path)
        self._tasks.start(self._listen(reader, _Orders(reload, announce, drain)))
        self._tasks.start(self._beat())
        await self._is_told.wait()
        try:
            yield
        finally:
            await self._tasks.end()
            self._writer.close()

    def find_there(self) -> tuple[str, ...]:
        """Name the engines whose processes ran as this worker connected."""
        return self._there

    async def start(self, spec: ProcessSpec) -> "SupervisedProcess":
        """Start a process by `spec`, or take over the one that runs already. Raise `OSError`."""
        reply = await self._ask(StartProcess(next(self._calls), spec))
        if isinstance(reply, ProcessStarted):
            return SupervisedProcess(self, reply)
        raise OSError(reply.why if isinstance(reply, StartFailed) else "the supervisor gave an unexpected reply")

    async def end(self, pid: int, how: Literal["dump", "leave", "kill"]) -> str:
        """Stop a process; return how it ended."""
        reply = await self._ask(StopProcess(next(self._calls), pid, how))
        return reply.how if isinstance(reply, ProcessStopped) else "is gone"

    def give_up(self, reasons: dict[str, str]) -> None:
        """Report that no engine can be loaded, with the reason for each of them."""
        self._send(NoEngineLoads(reasons))

    def settle(self) -> None:
        """Report that every engine of the start was tried."""
        self._send(EnginesSettled())

    async def _ask(self, command: StartProcess | StopProcess) -> ProcessStarted | ProcessStopped | StartFailed:
        answer: asyncio.Future[ProcessStarted | ProcessStopped | StartFailed] = (
            asyncio.get_running_loop().create_future()
        )
        self._asked[command.call] = answer
        self._send(command)
        try:
            return await answer
        finally:
            del self._asked[command.call]

    def _send(self, command: Command) -> None:
        if self._writer is not None:
            self._writer.write(pack(command))

    async def _beat(self) -> None:
        while True:
            self._send(WorkerBeat())
            await asyncio.sleep(_BEAT_SECONDS)

    async def _listen(self, reader: asyncio.StreamReader, orders: "_Orders") -> None:
        frames = Frames()
        try:
            while piece := await reader.read(_PIECE):
                for body in frames.feed(piece):
                    self._hear(read_reply(body), orders)
        finally:
            self._is_told.set()

    def _hear(self, reply: SupervisorReply, orders: "_Orders") -> None:
        match reply:
            case Reload(config):
                self._tasks.start(_change(orders.reload, config))
            case Announce():
                orders.announce()
            case Drain():
                self._tasks.start(self._drain(orders.drain))
            case ProcessesThere(names):
                self._there = names
            case UpToDate():
                self._is_told.set()
            case _:
                self._take(reply)

    async def _drain(self, drain: DrainWork) -> None:
        await drain()
        self._send(Drained())

    def _take(self, reply: ProcessStarted | ProcessStopped | StartFailed | LogLine) -> None:
        match reply:
            case LogLine(level, text, extra):
                logger.bind(**extra).log(level, "{}", text)
            case ProcessStarted() | ProcessStopped() | StartFailed():
                answer = self._asked.get(reply.call)
                if answer is not None and not answer.done():
                    answer.set_result(reply)


class SupervisedProcess:
    """An engine process that the supervisor runs."""

    def __init__(self, supervisor: SupervisorClient, running: ProcessStarted) -> None:
        self._supervisor = supervisor
        self.pid = running.pid
        self.path = running.path

    def hide(self) -> None:
        """Do nothing: the next worker needs the socket's name."""

    async def dump(self) -> None:
        """Stop the process with a dump of the stack of each thread."""
        await self._supervisor.end(self.pid, "dump")

    async def leave(self) -> None:
        """Let the process leave its engine within its time; then kill it."""
        await self._supervisor.end(self.pid, "leave")

    async def kill(self) -> str:
        """Kill the process; return how it ended."""
        return await self._supervisor.end(self.pid, "kill")


async def _change(reload: ReloadWork, config: Config) -> None:
    try:
        await reload(config)
    except Exception as error:  # noqa: BLE001 - whatever is wrong, the old configuration goes on
        logger.opt(exception=error).bind(event="reload_failed").error("the configuration stays as it was: {}", error)
    else:
        logger.bind(event="reloaded").info("the configuration was reloaded")
