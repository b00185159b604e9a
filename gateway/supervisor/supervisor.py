"""The main process: starts the HTTP server and the engines' processes, hears the signals, replaces what dies.

It imports neither the server nor any engine, and everything that it started dies with it.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from loguru import logger

from gateway import __version__
from gateway.config import Config, ConfigError, ServerSettings, command, environment, hand_over
from gateway.supervisor.engines import EngineProcesses
from gateway.supervisor.recipe import spec_of

NO_ENGINE = 3

# A terminal's Ctrl-C and `uv run` deliver one wish as two signals within milliseconds.
_REPEAT_SECONDS = 1.0
# Beyond the drain: the worker's own clean-up, and granian's.
_KILL_SECONDS = 10.0
_DEATHS = 5
_WINDOW = 60.0


def serve(config: Config, reread: Callable[[], Config]) -> int:
    """Serve until a signal says to stop; return the exit code. `reread` reads the configuration again."""
    address = _resolve(config.server)
    _greet(config)
    return asyncio.run(Supervisor(config, address, reread).run())


class Supervisor:
    """Keeps one HTTP server running, and the engines' processes beside it."""

    def __init__(self, config: Config, address: str, reread: Callable[[], Config]) -> None:
        self._config = config
        self._address = address
        self._reread = reread
        self._hosts = EngineProcesses(self._fail)
        self._server: asyncio.subprocess.Process | None = None
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._ended: float | None = None
        self._code = 0

    async def run(self) -> int:
        """Run until a signal, or until nothing can be served; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        logger.remove()
        logger.add(self._hosts.say, level=self._config.telemetry.log_level, format=lambda _: "")
        async with self._hosts as hosts:
            hand_over(self._config, address=self._address, control=hosts.path)
            if self._ended is None:
                hosts.prepare(
                    found for name, engine in self._config.engines.items() if (found := spec_of(name, engine))
                )
            while self._ended is None:
                await self._run_server()
        return self._code

    async def _run_server(self) -> None:
        """Run the HTTP server until it ends; where nobody wanted that, say so, and wait before the next."""
        self._server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "gateway.server",
            stdin=asyncio.subprocess.DEVNULL,
            env=environment(),
            preexec_fn=_spare,
        )
        if self._ended is not None:
            self._server.terminate()
        status = await self._server.wait()
        self._hosts.detach()
        if self._ended is not None:
            return
        self._deaths.append(time.monotonic())
        recent = sum(time.monotonic() - death < _WINDOW for death in self._deaths)
        if recent == _DEATHS:
            self._ended, self._code = time.monotonic(), 1
            logger.error("the HTTP server ended {} times in a row, the last time with {}", _DEATHS, status)
            return
        logger.bind(event="server_restart").error("the HTTP server ended with {}; it is started again", status)
        await asyncio.sleep(2.0 ** (recent - 2) if recent > 1 else 0.0)

    def _stop(self, number: int) -> None:
        """Drain at the first signal; end at once at a later one."""
        now = time.monotonic()
        if self._ended is None:
            self._ended = now
            if self._server is not None and self._server.returncode is None:
                self._server.terminate()
            kill_after = self._config.server.drain_seconds + _KILL_SECONDS
            asyncio.get_running_loop().call_later(kill_after, self._kill)
        elif now - self._ended > _REPEAT_SECONDS:
            os._exit(128 + number)  # the others die with this process

    def _kill(self) -> None:
        if self._server is not None and self._server.returncode is None:
            self._server.kill()

    def _fail(self) -> None:
        """Take the worker's word that no engine can be loaded."""
        self._code = NO_ENGINE
        self._stop(signal.SIGTERM)

    def _reload(self) -> None:
        """Read the configuration again; what is wrong with it is said, and the old one stays."""
        try:
            self._config = self._reread()
        except ConfigError as error:
            logger.bind(event="reload_failed").error("the configuration stays as it was: {}", error)
            return
        hand_over(self._config, address=self._address, control=self._hosts.path)
        self._hosts.reload(self._config)


def _spare() -> None:
    """Keep a terminal's signals from the server: it is told by the supervisor when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _resolve(server: ServerSettings) -> str:
    """Turn the host into an address, and find out before anything is started whether it can be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {server.host} port {server.port}: {error.strerror}") from error
    return str(address[0])


def _greet(config: Config) -> None:
    url = config.server.url
    body = '{"prompt":"The capital of France is","max_new_tokens":16,"temperature":0}'
    lines = [
        f"LLM gateway {__version__}",
        f"  API     {url}/v1",
        *([f"  docs    {url}/schema"] if config.server.docs else []),
        f"  health  {url}/v1/health",
        "",
        "Try it, in another terminal:",
        f"  curl -s {url}/v1/generate --json '{body}'",
        f"  {command()} chat" + ("" if config.server.port == ServerSettings().port else f" --url {url}"),
        "",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
