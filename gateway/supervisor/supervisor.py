"""The main process: starts the HTTP server and engine processes, handles signals, restarts what dies.

It imports neither the server nor any engine, and its child processes die with it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from loguru import logger

from gateway.config import Config, ConfigError, Handover, HandoverFile, environment
from gateway.flow.tasks import Tasks
from gateway.isolation import sweep
from gateway.isolation.output import Output
from gateway.linux import Lifeline, is_shortage
from gateway.supervisor.console import console
from gateway.supervisor.engines import EngineProcesses
from gateway.supervisor.greeting import Greeting
from gateway.supervisor.listener import finish, listen, pause, resume
from gateway.supervisor.protocol import SHORTAGE
from gateway.supervisor.specs import at_start
from gateway.supervisor.watch import WorkerWatch

NO_ENGINE = 3

# A Ctrl-C under `uv run` arrives as two signals within milliseconds.
_REPEAT_SECONDS = 1.0
# After the drain, for the clean-up of the worker and of granian.
_KILL_SECONDS = 10.0
# After the drain the worker aborts what still runs, and reports that a moment later.
_LATE_SECONDS = 2.0
# For the requests on connections that were taken last: to be read, and answered that the service goes down.
_SETTLE_SECONDS = 0.02
_OUTPUT_SECONDS = 0.25
_STDOUT, _STDERR = 1, 2
_PIECE = 2**16
_DEATHS = 5
_WINDOW = 60.0
# Short enough for a stop to wait for.
_LONGEST_DELAY = 8.0


def serve(config: Config, reread: Callable[[], Config]) -> int:
    """Serve until a signal; return the exit code. `reread` reads the configuration again."""
    with listen(config.server) as listener:
        pause(listener)
        sweep()
        greeting = Greeting(config)
        greeting.begin()
        return asyncio.run(Supervisor(config, listener, reread, greeting.settle).run())


class Supervisor:
    """Keeps one HTTP server and the engine processes running."""

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        reread: Callable[[], Config],
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._listener = listener
        self._handover = HandoverFile()
        self._reread = reread
        self._on_settled = on_settled
        self._engines = EngineProcesses(self._fail, self._open_port, self._settle)
        self._server: asyncio.subprocess.Process | None = None
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._shortages = 0
        self._stopped: float | None = None
        self._is_open = False
        self._tasks = Tasks()
        self._reasons: dict[str, str] = {}
        self._code = 0

    async def run(self) -> int:
        """Run until a signal, or until no engine or server can run; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        logger.remove()
        level = self._config.telemetry.log_level
        logger.add(self._engines.say, level=level, format=lambda _: "")
        logging.getLogger("gateway").setLevel(logger.level(level).no)  # for the engines' processes
        async with self._engines as engines:
            self._hand_over()
            if self._stopped is None:
                engines.prepare(at_start(self._config))
            while self._stopped is None:
                await self._run_server()
            await self._tasks.end()
        _say_why(self._reasons)
        return self._code

    async def _run_server(self) -> None:
        """Run the HTTP server until it ends; if it died, log that and wait before the next start."""
        try:
            self._server, lifeline = await self._start_server()
        except (OSError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            await self._wait_out(str(error))
            return
        output = asyncio.create_task(_log_output(self._server.stderr))
        watch = WorkerWatch(self._engines, lambda: self._config.server.hang_seconds, self._kill_server)
        watching = asyncio.create_task(watch.run())
        if self._stopped is not None:
            self._server.terminate()
        status = await self._server.wait()
        watching.cancel()
        lifeline.cut()
        # A worker that has not ended yet holds the pipe open.
        await asyncio.wait({output}, timeout=_OUTPUT_SECONDS)
        output.cancel()
        self._engines.detach()
        if self._stopped is not None:
            return
        if status == SHORTAGE:
            await self._wait_out("it could not start a worker")
            return
        self._shortages = 0
        self._deaths.append(time.monotonic())
        recent = sum(time.monotonic() - death < _WINDOW for death in self._deaths)
        if recent == _DEATHS:
            self._stopped, self._code = time.monotonic(), 1
            logger.error("the HTTP server ended {} times in a row, the last time with {}", _DEATHS, status)
            return
        logger.bind(event="server_restart").error("the HTTP server ended with {}; it is started again", status)
        await asyncio.sleep(2.0 ** (recent - 2) if recent > 1 else 0.0)

    async def _wait_out(self, why: str) -> None:
        """Wait before the next start, for the machine is short of something: that is no death."""
        delay = min(2.0**self._shortages, _LONGEST_DELAY)
        self._shortages = min(self._shortages + 1, _DEATHS)
        logger.bind(event="server_shortage").error(
            "the HTTP server cannot run for now: {}; tried again in {:g} s", why, delay
        )
        self._engines.detach()  # without a server no worker comes to log it
        await asyncio.sleep(delay)

    async def _start_server(self) -> tuple[asyncio.subprocess.Process, Lifeline]:
        lifeline = Lifeline()
        try:
            server = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "gateway.server",
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment() | {"TMPDIR": self._engines.folder},
                pass_fds=(self._listener.fileno(), self._handover.fd, lifeline.descriptor),
                # A terminal's signals are for the supervisor alone, which tells the server and its worker when to end.
                start_new_session=True,
            )
        except BaseException:
            lifeline.cut()
            raise
        lifeline.tie(server.pid)
        return server, lifeline

    def _kill_server(self) -> None:
        self._signal(signal.SIGKILL)

    def _stop(self, number: int) -> None:
        """Drain at the first signal; exit at once at a later one."""
        now = time.monotonic()
        if self._stopped is None:
            self._begin_stop(self._config.server.notice_seconds)
        elif now - self._stopped > _REPEAT_SECONDS:
            os._exit(128 + number)  # the others die with this process

    def _begin_stop(self, notice: float) -> None:
        self._stopped = time.monotonic()
        self._tasks.start(self._end_server(notice))

    def _open_port(self) -> None:
        """Take connections from the first worker on; while later ones are replaced, connections wait."""
        if not self._is_open and self._stopped is None:
            self._is_open = True
            resume(self._listener)

    def _settle(self) -> None:
        """Say that the models of the start are loaded, unless the service goes down already."""
        if self._stopped is None:
            self._on_settled()

    async def _end_server(self, notice: float) -> None:
        """Stop the server after the notice and the last request; kill it when its time is over.

        In the notice requests are answered, and only `/readyz` says that it goes down. Then new ones are refused with a
        reason. The server closes its port at the first signal, so that is sent last: until then probes, cancels and
        scrapes are answered.
        """
        drain_seconds = self._config.server.drain_seconds
        if notice:
            self._engines.announce()
            await asyncio.sleep(notice)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds + _LATE_SECONDS):
                await self._engines.drain()
        if self._is_open:
            await finish(self._listener)
            await asyncio.sleep(_SETTLE_SECONDS)
        self._listener.close()
        self._signal(signal.SIGTERM)
        ended = (self._stopped or 0.0) + notice + drain_seconds + _KILL_SECONDS
        await asyncio.sleep(ended - time.monotonic())
        logger.error("the HTTP server has not ended in time, and is killed")
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._server is not None and self._server.returncode is None:
            self._server.send_signal(number)

    def _fail(self, reasons: dict[str, str]) -> None:
        """Stop because no engine can be loaded; the reasons are printed at the end."""
        if self._stopped is None:
            self._code, self._reasons = NO_ENGINE, reasons
            self._begin_stop(0.0)

    def _reload(self) -> None:
        """Read the configuration again; keep the old one and log the error if it is wrong."""
        try:
            self._config = self._reread()
        except ConfigError as error:
            logger.bind(event="reload_failed").error("the configuration stays as it was: {}", error)
            return
        self._hand_over()
        self._engines.reload(self._config)

    def _hand_over(self) -> None:
        self._handover.write(
            Handover(config=self._config, listener=self._listener.fileno(), control=self._engines.path)
        )


async def _log_output(pipe: asyncio.StreamReader | None) -> None:
    """Log the output of the server and its worker: messages of granian and libraries, the traces of crashes."""
    output = Output(logger.bind(event="server_output"), "WARNING")
    while pipe is not None and (piece := await pipe.read(_PIECE)):
        output.feed(piece)
    output.feed(b"")


def _say_why(reasons: dict[str, str]) -> None:
    """Print why no engine could be loaded; only a pointer to the log if that is on the same terminal."""
    if reasons and os.path.sameopenfile(_STDOUT, _STDERR):
        console.print("llm-gateway: no engine could be loaded; the log says why")
    elif reasons:
        console.print(*(f"llm-gateway: engine {name!r}: {reason}" for name, reason in reasons.items()))
