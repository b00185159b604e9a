"""The worker of a service with TLS: it takes up another certificate, and no request and no count is lost.

Granian reads a certificate once, as the native half of its worker begins to accept connections, and its own reload
starts another process. Here a second native half begins on the same socket with the files as they are then, and the
first one accepts no more: it closes the connections without a request, and ends with the last of the others. The
application is the same one for both.
"""

import asyncio
import functools
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from granian._futures import _future_watcher_wrapper, _new_cbscheduler
from granian._granian import ASGIWorker, SocketHolder, WorkerSignal
from granian.asgi import LifespanProtocol, _callback_wrapper
from granian.constants import HTTPModes, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import logger
from litestar.types import ASGIApp

from gateway.config import ServerSettings

# Of the native half: threads for its own work, and for calls into Python. They are granian's own defaults.
_THREADS, _BLOCKING_THREADS, _PYTHON_THREADS, _IDLE_SECONDS = 1, 512, 1, 30
# High enough to refuse nothing: a connection is not a request, and a refused one gets no answer at all.
BACKPRESSURE = 65_536
# That many connections wait in the kernel; the listener has been told already.
_BACKLOG = 1_024


def http_settings(server: ServerSettings) -> HTTP1Settings:
    """Say how granian reads HTTP/1.1."""
    return HTTP1Settings(header_read_timeout=server.idle_seconds * 1_000, max_buffer_size=32_768, pipeline_flush=False)


class Acceptor:
    """Accepts connections for an application in this process, with one certificate at a time."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._http = HTTP1Settings()
        self._begin: Callable[[ServerSettings, WorkerSignal], None] | None = None
        self._digest = b""
        self._current: WorkerSignal | None = None
        self._running = 0
        self._is_ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, server: ServerSettings) -> None:
        """Serve `app` until SIGTERM, as granian's own worker for ASGI with a lifespan does."""
        self._loop = loop
        # Before the application has handlers of its own, which this one's would replace.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        lifespan: Any = LifespanProtocol(app)  # type: ignore[no-untyped-call]  # granian's own has no types
        loop.run_until_complete(lifespan.startup())
        if lifespan.interrupt:
            logger.error("ASGI lifespan startup failed", exc_info=lifespan.exc)
            sys.exit(1)
        self._http = http_settings(server)
        wrapped = _future_watcher_wrapper(_callback_wrapper(app, {"url_path_prefix": None}, lifespan.state, None))  # type: ignore[no-untyped-call]
        scheduler = _new_cbscheduler(loop, wrapped, impl_asyncio=True)  # type: ignore[no-untyped-call]
        self._begin = lambda settings, ending: self._native(settings).serve_mtr(scheduler, loop, ending)
        if not self._is_ending:
            self._replace(server)
            loop.run_until_complete(self._ended.wait())
        loop.run_until_complete(lifespan.shutdown())

    def renew(self, server: ServerSettings) -> list[str]:
        """Take up the certificate if its files have changed; return the settings that only a restart can change.

        Raises what granian raises for files that it cannot use; the certificate is then the one before.
        """
        is_on = self._begin is not None
        if is_on is (server.tls_certificate is None):
            return ["server.tls_certificate"]
        if is_on and not self._is_ending and _digest(server) != self._digest:
            self._replace(server)
            logger.warning("connections get the certificate that is in %s now", server.tls_certificate)
        return []

    def _replace(self, server: ServerSettings) -> None:
        """Begin with the files as they are now, and then accept nothing with those before."""
        if self._begin is None or self._loop is None:
            return
        ending = WorkerSignal()
        ending.add_cb(functools.partial(self._loop.call_soon_threadsafe, self._one_has_ended))
        digest = _digest(server)
        self._begin(server, ending)
        self._running += 1
        before, self._current, self._digest = self._current, ending, digest
        if before is not None:
            before.set()

    def _native(self, server: ServerSettings) -> Any:  # noqa: ANN401 - the stubs leave out what it can do
        make: Any = ASGIWorker  # and an argument, `ipc`
        holder: Any = SocketHolder  # and this one's signature: descriptor, is it a Unix socket, backlog
        return make(
            1,
            (None, holder(os.dup(self._listener), False, _BACKLOG)),  # noqa: FBT003
            None,
            _THREADS,
            _BLOCKING_THREADS,
            _PYTHON_THREADS,
            _IDLE_SECONDS,
            BACKPRESSURE,
            HTTPModes.http1,
            self._http,
            None,
            False,  # noqa: FBT003 - no WebSockets
            None,
            True,  # noqa: FBT003 - TLS, and from here on what belongs to it
            server.tls_certificate,
            server.tls_key,
            None,
            str(SSLProtocols.tls12),
            server.tls_client_ca,
            [],
            server.tls_client_ca is not None,
            (None, None),
        )

    def _end(self) -> None:
        self._is_ending = True
        if self._current is not None:
            self._current.set()

    def _one_has_ended(self) -> None:
        self._running -= 1
        if self._is_ending and not self._running:
            self._ended.set()


def _digest(server: ServerSettings) -> bytes:
    """Know the files by what is in them: a tool that renews may keep their names and times."""
    seen = hashlib.sha256(repr((server.tls_certificate, server.tls_key, server.tls_client_ca)).encode())
    for name in (server.tls_certificate, server.tls_key, server.tls_client_ca):
        seen.update(Path(name).read_bytes() if name else b"")
    return seen.digest()
