"""The HTTP server, started by the supervisor as `python -m gateway.server`: granian's main process and its worker."""

import contextlib
import faulthandler
import functools
import gc
import io
import os
import resource
import signal
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server import MPServer
from granian.server.mp import WorkerProcess
from litestar.types import ASGIApp

from gateway.acceptor import BACKPRESSURE, Acceptor, http_settings
from gateway.config import Handover, ServerSettings, handed_over, relay
from gateway.linux import die_with_parent, give_back_freed_memory, is_shortage
from gateway.supervisor.protocol import SHORTAGE

_STDOUT, _STDERR = 1, 2
# The event loop gets the interpreter back from a thread that computes within this time; Python's own is ten times that.
_SWITCH_SECONDS = 0.0005
# The form of granian's messages, which keeps their level.
_LOGGING = {
    "formatters": {"lines": {"()": "gateway.isolation.output.LineFormatter"}},
    "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "loggers": {"_granian": {"handlers": ["lines"], "propagate": False}},
}


class _Server(MPServer):
    """Granian, serving on the supervisor's socket; its own would share the port with any other service."""

    def __init__(self, listener: int, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - granian's own
        super().__init__(*arguments, **settings)
        self._listener = listener
        self._sso = None

    def _init_shared_socket(self) -> None:
        make: Any = SocketHolder  # the stubs leave out its signature: descriptor, is it a Unix socket, backlog
        self._shd = make(self._listener, False, self.backlog)  # noqa: FBT003

    def _drop_shared_socket(self) -> None:
        os.close(self._listener)


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    parent = os.getppid()
    handover = relay(_keep_log_apart())
    die_with_parent(parent)
    give_back_freed_memory()
    _open_as_much_as_may_be()
    server = _granian(handover)
    server.on_startup(functools.partial(_listen, server))
    _spare_no_worker()
    _import_application()
    acceptor = Acceptor(handover.listener)
    work, load = functools.partial(_work, os.getpid(), acceptor), functools.partial(_load, acceptor)
    try:
        server.serve(work, load, wrap_loader=False)
    except SystemExit as stop:
        return int(stop.code or 0)
    except (OSError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        # A worker that was not granian's yet dies with this process; a regular exit would wait for it.
        print(f"the HTTP server cannot start a worker for now: {error}", file=sys.stderr, flush=True)
        os._exit(SHORTAGE)
    return 0


def _open_as_much_as_may_be() -> None:
    """Raise the soft limit of descriptors, one for each connection, to the hard one: 1024 is for what calls `select`.

    At the limit granian goes on to try, so connections wait, and a core is busy with it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_log_apart() -> int:
    """Return a file descriptor for the log alone, and send everything else on standard output to the supervisor.

    The supervisor logs what it reads from standard error: messages of granian, of a library, of a crash.
    """
    log = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return log


def _import_application() -> None:
    """Import the application before the fork, so that a restarted worker has it; the collector need not look at it."""
    gc.disable()
    import gateway.app  # noqa: F401, PLC0415 - for the workers that are forked

    gc.freeze()
    gc.enable()


def _load(acceptor: Acceptor) -> Callable[..., object]:
    """Make the application; granian's own loader would put the current folder first on the path."""
    from gateway.app import serve  # noqa: PLC0415 - imported before, for the workers

    return serve(acceptor.renew)


def _listen(server: MPServer) -> None:
    """Replace granian's signal handlers: only SIGTERM stops the server."""
    signal.signal(signal.SIGTERM, lambda _, __: server.signal_handler_interrupt())  # type: ignore[no-untyped-call]  # granian's own handler
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _spare_no_worker() -> None:
    """Let SIGTERM end a worker that was only just forked: it has nothing to finish yet.

    It inherits handlers that do nothing there, and a signal during the fork would be lost.
    """
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}),
        after_in_child=_let_signals_end,
    )


def _let_signals_end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _work(main: int, acceptor: Acceptor, *arguments: Any) -> None:  # noqa: ANN401 - granian's own, handed on
    """Run the worker of the process `main`, and exit without waiting for threads: one may still load a model."""
    die_with_parent(main)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold prompts
    faulthandler.enable(all_threads=True)
    sys.setswitchinterval(_SWITCH_SECONDS)
    handover = handed_over()
    if handover is not None and handover.config.server.tls_certificate is not None:
        _accept_with_tls(acceptor, handover.config.server, *arguments)
    else:
        # What granian takes by itself for this interface.
        MPServer._spawn_asgi_lifespan_worker(*arguments)  # noqa: SLF001
    os._exit(0)


def _accept_with_tls(acceptor: Acceptor, settings: ServerSettings, *arguments: Any) -> None:  # noqa: ANN401
    def run(_number: int, app: ASGIApp, _socket: Any, _pipe: Any, loop: AbstractEventLoop, *_: Any) -> None:  # noqa: ANN401
        acceptor.run(app, loop, settings)

    WorkerProcess.wrap_target(run)(*arguments)  # type: ignore[no-untyped-call]


def _granian(handover: Handover) -> MPServer:
    server = handover.config.server
    return _Server(
        handover.listener,
        "gateway.app:serve",
        address=server.host,
        port=server.port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        respawn_failed_workers=True,
        http=HTTPModes.http1,
        websockets=False,
        backpressure=BACKPRESSURE,
        http1_settings=http_settings(server),
        log_enabled=True,
        log_level=LogLevels.warning,
        log_dictconfig=_LOGGING,
    )


if __name__ == "__main__":
    sys.exit(main())
