"""One engine's process: started with nothing but what it needs, heard, and ended for sure."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, Self

from loguru import logger
from msgspec import Struct

from gateway.flow.tasks import see_through
from gateway.isolation import launch
from gateway.isolation.launch import Launch, RestartPolicy
from gateway.isolation.output import Output
from gateway.isolation.private_folder import PrivateFolder
from gateway.linux import Lifeline

_LOG = logging.getLogger("gateway")
_SOCKET = "engine"
_MODULE = "gateway.isolation.child"
_BACKLOG = 8
_DUMP_SECONDS = 0.25


class ProcessSpec(Struct, frozen=True, kw_only=True):
    """A process to run: the engine's name in logs, its plugin with encoded settings, its environment and restarts.

    Without `network` it can open no connection to other machines, nor to a port of this one.
    """

    name: str
    plugin: str
    settings: bytes
    environment: dict[str, str]
    policy: RestartPolicy
    network: bool = False


class RunningProcess(Protocol):
    """A process that runs somewhere, as `EngineProcess` does."""

    path: str
    pid: int

    def hide(self) -> None: ...  # noqa: D102 - as `EngineProcess` says
    async def dump(self) -> None: ...  # noqa: D102
    async def leave(self) -> None: ...  # noqa: D102
    async def kill(self) -> str: ...  # noqa: D102


Starter = Callable[[ProcessSpec], Awaitable[RunningProcess]]


class EngineProcess:
    """A running process with all that it starts, and the private folder for its socket and its temporary files."""

    def __init__(
        self, process: asyncio.subprocess.Process, folder: PrivateFolder, lifeline: Lifeline, spec: ProcessSpec
    ) -> None:
        self._process = process
        self._folder = folder
        self._lifeline = lifeline
        self._leave = spec.policy.leave
        self._hearing = asyncio.create_task(self._hear(Output(logger.bind(event="engine_output", engine=spec.name))))
        self.path = folder.file(_SOCKET)
        self.pid = process.pid

    @classmethod
    async def start(cls, spec: ProcessSpec) -> Self:
        """Start the process and send it its launch; a client may connect at once, and waits until it is up.

        Raises `OSError` for want of descriptors, processes, threads, memory or space.
        """
        with contextlib.ExitStack() as undo:
            folder = PrivateFolder()
            undo.callback(folder.remove)
            lifeline = Lifeline()
            undo.callback(lifeline.cut)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(folder.file(_SOCKET))
                listener.listen(_BACKLOG)
                try:
                    process = await asyncio.create_subprocess_exec(
                        sys.executable,
                        "-P",
                        "-m",
                        _MODULE,
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        stderr=asyncio.subprocess.STDOUT,
                        env=spec.environment | {"TMPDIR": folder.path},
                        pass_fds=(listener.fileno(), lifeline.descriptor),
                        start_new_session=True,
                    )
                except RuntimeError as error:  # asyncio waits for a process in a thread, and there is none for it
                    raise OSError(errno.EAGAIN, str(error)) from error
                lifeline.tie(process.pid)
                _tell(process, _launch(spec, listener))
            undo.pop_all()
        return cls(process, folder, lifeline, spec)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def hide(self) -> None:
        """Remove the socket's name: open connections stay, and no other can be made."""
        Path(self.path).unlink(missing_ok=True)

    async def dump(self) -> None:
        """Have the process write where each of its threads is, which ends it; one that is stopped cannot."""
        self._signal(signal.SIGABRT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DUMP_SECONDS):
                await self._process.wait()

    async def leave(self) -> None:
        """Let the process leave its engine, within its time; then end it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(self._leave):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            await self.kill()

    async def kill(self) -> str:
        """End the process, if it has not ended, and all that it started; return how it ended.

        A cancellation waits for it: a process that has been killed is still there until it was waited for.
        """
        return await see_through(self._kill())

    async def _kill(self) -> str:
        self._signal(signal.SIGKILL)
        status = await self._process.wait()
        self._lifeline.cut()
        # A process that it started may hold the pipe open; what is left of the output is not waited for long.
        await asyncio.wait({self._hearing}, timeout=_DUMP_SECONDS)
        self._hearing.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._folder.remove()
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole session that the process leads."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _hear(self, output: Output) -> None:
        if self._process.stdout is not None:
            while piece := await self._process.stdout.read(2**16):
                output.feed(piece)
            output.feed(b"")


def _launch(spec: ProcessSpec, listener: socket.socket) -> Launch:
    return Launch(
        parent=os.getpid(),
        listener=listener.fileno(),
        plugin=spec.plugin,
        settings=spec.settings,
        beat=spec.policy.beat,
        leave=spec.policy.leave,
        network=spec.network,
        log_level=min(logging.INFO, _LOG.getEffectiveLevel()),
    )


def _tell(process: asyncio.subprocess.Process, told: Launch) -> None:
    """Write the launch; it is small enough for the pipe, and a process that died meanwhile is found dead later."""
    if process.stdin is not None:
        process.stdin.write(launch.write(told))
