"""The HTTP server, started by the supervisor as `python -m gateway.server`: granian's main process and its worker."""

import functools
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from gateway.config import Handover, relay
from gateway.linux import die_with_parent

_STDOUT, _STDERR = 1, 2
# Granian prints through it, in a form that keeps the level.
_LOGGING = {
    "formatters": {"lines": {"()": "gateway.isolation.output.LineFormatter"}},
    "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "loggers": {"_granian": {"handlers": ["lines"], "propagate": False}},
}


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    handover = relay(_keep_log_apart())
    die_with_parent(handover.giver)
    server = _granian(handover)
    server.on_startup(functools.partial(_listen, server))
    _spare_no_worker()
    _import_application()
    try:
        server.serve(functools.partial(_work, os.getpid()), _load, wrap_loader=False)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _keep_log_apart() -> int:
    """Return a descriptor for the log, to which nothing else can write: what is printed goes to the supervisor.

    That reads standard error and logs it, whatever prints there: granian, a library, an interpreter that ends badly.
    """
    log = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return log


def _import_application() -> None:
    """Import it here already, so that a worker that takes another's place is forked with it; none of it is garbage."""
    gc.disable()
    import gateway.app  # noqa: F401, PLC0415 - for the workers that are forked

    gc.freeze()
    gc.enable()


def _load() -> Callable[..., object]:
    """Make the application; granian's own loader would put the current folder first on the path."""
    from gateway.app import serve  # noqa: PLC0415 - imported before, for the workers

    return serve()


def _listen(server: MPServer) -> None:
    """Take the signals over from granian, which has just taken them: only SIGTERM means something here."""
    signal.signal(signal.SIGTERM, lambda _, __: server.signal_handler_interrupt())  # type: ignore[no-untyped-call]  # granian's own handler
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _spare_no_worker() -> None:
    """See that a worker which was only just forked ends on a signal too: it has nothing to finish yet.

    It would inherit handlers that reach nobody there, and the fork itself forgets what came in the meantime.
    """
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}),
        after_in_child=_let_signals_end,
    )


def _let_signals_end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _work(main: int, *arguments: Any) -> None:  # noqa: ANN401 - granian's own, handed on
    """Be the worker of the process `main`, and leave at once in the end: a thread may still load what nobody wants."""
    die_with_parent(main)
    MPServer._spawn_asgi_lifespan_worker(*arguments)  # noqa: SLF001 - what granian takes by itself for this interface
    os._exit(0)


def _granian(handover: Handover) -> MPServer:
    server = handover.config.server
    return MPServer(
        "gateway.app:serve",
        address=handover.address,
        port=server.port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        respawn_failed_workers=True,
        http=HTTPModes.http1,
        websockets=False,
        # Sheds nothing: a connection is not a request, and a full one would get no answer at all.
        backpressure=65_536,
        http1_settings=HTTP1Settings(
            header_read_timeout=server.idle_seconds * 1_000, max_buffer_size=32_768, pipeline_flush=False
        ),
        log_enabled=True,
        log_level=LogLevels.warning,
        log_dictconfig=_LOGGING,
    )


if __name__ == "__main__":
    sys.exit(main())
