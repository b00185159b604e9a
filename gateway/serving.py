"""`llm-gateway serve`: granian with one worker, its signals, and its exit code."""

import ctypes
import functools
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from gateway import __version__
from gateway.config import Config, ConfigError, ServerSettings, command, hand_over

NO_ENGINE = 3

# A terminal's Ctrl-C and `uv run` deliver one wish as two signals within milliseconds.
_REPEAT_SECONDS = 1.0
_KILL_SECONDS = 5
_ENDING = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1


def serve(config: Config) -> int:
    """Serve until a signal says to stop; return the exit code."""
    address = _resolve(config.server)
    hand_over(config)
    server = _granian(config, address)
    end = _End(server)
    server.on_startup(end.listen)
    _spare_no_worker()
    _greet(config)
    try:
        server.serve(spawn_target=functools.partial(_work, os.getpid()))
    except SystemExit as stop:
        return end.code or int(stop.code or 0)
    return end.code


class _End:
    """How the service ends: the first signal drains, a later one ends at once."""

    def __init__(self, server: MPServer) -> None:
        self._server = server
        self._first: float | None = None
        self.code = 0

    def listen(self) -> None:
        """Take the signals over from granian, which has just taken them."""
        for number in _ENDING:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._fail)

    def _stop(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._interrupt()
        elif now - self._first > _REPEAT_SECONDS:
            for worker in self._server.wrks:
                worker.kill()  # type: ignore[no-untyped-call]  # granian does not say
            os._exit(128 + number)

    def _fail(self, _: int, __: FrameType | None) -> None:
        """Take the worker's word that no engine can be loaded."""
        self.code = NO_ENGINE
        self._interrupt()

    def _interrupt(self) -> None:
        self._server.signal_handler_interrupt()  # type: ignore[no-untyped-call]  # granian's own handler


def _spare_no_worker() -> None:
    """See that a worker which was only just forked ends on a signal too: it has nothing to finish yet.

    It would inherit handlers that reach nobody there, and the fork itself forgets what came in the meantime.
    """
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING),
        after_in_child=_let_signals_end,
    )


def _let_signals_end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C; the main process hears it and says SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _work(main: int, *arguments: Any) -> None:  # noqa: ANN401 - granian's own, handed on
    """Be the worker of the process `main`, and leave at once in the end: a thread may still load what nobody wants."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != main:
        os._exit(1)
    MPServer._spawn_asgi_lifespan_worker(*arguments)  # noqa: SLF001 - what granian takes by itself for this interface
    os._exit(0)


def _granian(config: Config, address: str) -> MPServer:
    server = config.server
    return MPServer(
        "gateway.app:serve",
        factory=True,
        address=address,
        port=server.port,
        interface=Interfaces.ASGI,
        workers=1,
        http=HTTPModes.http1,
        websockets=False,
        # Sheds nothing: a connection is not a request, and a full one would get no answer at all.
        backpressure=65_536,
        http1_settings=HTTP1Settings(
            header_read_timeout=server.idle_seconds * 1_000, max_buffer_size=32_768, pipeline_flush=False
        ),
        log_enabled=True,
        log_level=LogLevels.warning,
        workers_kill_timeout=int(server.drain_seconds) + _KILL_SECONDS,
    )


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
