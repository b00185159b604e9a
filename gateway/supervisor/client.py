"""The worker's connection to the supervisor, which runs engine processes for it and tells it to reload."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

from loguru import logger

from gateway.config import Config
from gateway.flow.tasks import Tasks
from gateway.isolation import ProcessSpec
from gateway.isolation.wire import Frames, pack
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
    read_reply,
)

ReloadWork = Callable[[Config], Awaitable[None]]
DrainWork = Callable[[], Awaitable[None]]

_PIECE = 2**16


class SupervisorClient:
    """The worker's end: has the supervisor run processes, and does as it says."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._calls = itertools.count(1)
        self._asked: dict[int, asyncio.Future[ProcessStarted | ProcessStopped | StartFailed]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._tasks = Tasks()

    @asynccontextmanager
    async def listen(self, reload: ReloadWork, drain: DrainWork) -> AsyncGenerator[None, None]:
        """Listen to the supervisor while the block runs.

        `reload` puts another configuration into force; `drain` refuses new requests, and returns when the last one has
        ended.
        """
        reader, self._writer = await asyncio.open_unix_connection(self._path)
        self._tasks.start(self._listen(reader, reload, drain))
        try:
            yield
        finally:
            await self._tasks.end()
            self._writer.close()

    async def start(self, recipe: ProcessSpec) -> "SupervisedProcess":
        """Have a process run by `recipe`; one that does so already is taken over. Raise `OSError`."""
        word = await self._ask(StartProcess(next(self._calls), recipe))
        if isinstance(word, ProcessStarted):
            return SupervisedProcess(self, word)
        raise OSError(word.why if isinstance(word, StartFailed) else "the supervisor said something else")

    async def end(self, pid: int, how: Literal["dump", "leave", "kill"]) -> str:
        """Have a process ended; say how it ended."""
        word = await self._ask(StopProcess(next(self._calls), pid, how))
        return word.how if isinstance(word, ProcessStopped) else "is gone"

    def give_up(self, reasons: dict[str, str]) -> None:
        """Say that no engine can ever be loaded, and why each of them cannot."""
        self._send(NoEngineLoads(reasons))

    async def _ask(self, wish: StartProcess | StopProcess) -> ProcessStarted | ProcessStopped | StartFailed:
        answer: asyncio.Future[ProcessStarted | ProcessStopped | StartFailed] = (
            asyncio.get_running_loop().create_future()
        )
        self._asked[wish.call] = answer
        self._send(wish)
        try:
            return await answer
        finally:
            del self._asked[wish.call]

    def _send(self, wish: Command) -> None:
        if self._writer is not None:
            self._writer.write(pack(wish))

    async def _listen(self, reader: asyncio.StreamReader, reload: ReloadWork, drain: DrainWork) -> None:
        frames = Frames()
        while piece := await reader.read(_PIECE):
            for body in frames.feed(piece):
                match read_reply(body):
                    case Reload(config):
                        self._tasks.start(_change(reload, config))
                    case Drain():
                        self._tasks.start(self._drain(drain))
                    case reply:
                        self._take(reply)

    async def _drain(self, drain: DrainWork) -> None:
        await drain()
        self._send(Drained())

    def _take(self, word: ProcessStarted | ProcessStopped | StartFailed | LogLine) -> None:
        match word:
            case LogLine(level, text, extra):
                logger.bind(**extra).log(level, "{}", text)
            case ProcessStarted() | ProcessStopped() | StartFailed():
                answer = self._asked.get(word.call)
                if answer is not None and not answer.done():
                    answer.set_result(word)


class SupervisedProcess:
    """A process that the supervisor runs."""

    def __init__(self, helm: SupervisorClient, running: ProcessStarted) -> None:
        self._helm = helm
        self.pid = running.pid
        self.path = running.path

    def hide(self) -> None:
        """Leave the socket's name where it is: the next worker will look for it."""

    async def dump(self) -> None:
        """Have the process write where each of its threads is, which ends it."""
        await self._helm.end(self.pid, "dump")

    async def leave(self) -> None:
        """Let the process leave its engine, within its time; then end it."""
        await self._helm.end(self.pid, "leave")

    async def kill(self) -> str:
        """End the process; say how it ended."""
        return await self._helm.end(self.pid, "kill")


async def _change(reload: ReloadWork, config: Config) -> None:
    try:
        await reload(config)
    except Exception as error:  # noqa: BLE001 - whatever is wrong, the old configuration goes on
        logger.opt(exception=error).bind(event="reload_failed").error("the configuration stays as it was: {}", error)
    else:
        logger.bind(event="reloaded").info("the configuration was reloaded")
