"""The engine's process, `python -m gateway.isolation.child`; its standard input begins with a `Launch`.

It serves until its standard input ends. Signals do not end it, for a terminal's Ctrl-C and a service manager's SIGTERM
reach every process of the group, while the gateway still has answers to finish.
"""

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from gateway.engine import Engine, EngineError, LoadFailed, PluginError, load, loading_step, step_of
from gateway.isolation import confinement, launch
from gateway.isolation.launch import Launch
from gateway.isolation.output import LineFormatter
from gateway.isolation.server import EngineServer
from gateway.linux import die_with_parent

_log = logging.getLogger(__name__)
_OOM_SCORE = "800"


def main() -> None:
    """Read the launch, tie this process to its parent, and serve."""
    told = launch.read(sys.stdin.buffer)
    die_with_parent(told.parent)
    _log_to_stderr()
    _prepare_to_die()
    # Before any thread is started: a filter holds for the thread that sets it, and for those that it starts.
    confinement.confine(network=told.network)
    status = 1
    try:
        asyncio.new_event_loop().run_until_complete(_serve(told))
        status = 0
    except BaseException:  # noqa: BLE001 - a task of the plugin's own may exit or be interrupted
        _log.exception("the process ends, for something has ended its event loop")
    # A plugin's threads and tasks may not know that it is over.
    logging.shutdown()
    os._exit(status)


def _prepare_to_die() -> None:
    """Be the first to be killed when memory is short, dump stacks on a fatal signal, and ignore a terminal's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    faulthandler.enable(all_threads=True)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


class _StepTeller(logging.Handler):
    """Tells the clients of a server the steps of the load, which are records of any thread."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__(logging.INFO)
        self._server = server
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        if self._server.outcome is None and (step := step_of(record)) is not None:
            self._loop.call_soon_threadsafe(self._server.tell_step, *step)


async def _serve(told: Launch) -> None:
    server = EngineServer(told.beat)
    logging.getLogger().addHandler(_StepTeller(server))
    listener = socket.socket(fileno=told.listener)
    listener.set_inheritable(False)
    await server.listen(listener)
    loading = asyncio.create_task(_load(told, server))
    await _end_of_input()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(told.leave):
            loading.cancel()
            await asyncio.wait({loading})
            if server.engine is not None:
                await server.engine.__aexit__(None, None, None)
            await server.close()


async def _load(told: Launch, server: EngineServer) -> None:
    """Build the engine and enter it; tell the clients the outcome."""
    try:
        # To build an engine may import torch, which takes seconds; the event loop answers meanwhile.
        engine = await asyncio.to_thread(_build, told)
        server.open(await engine.__aenter__())
    except PluginError as error:
        server.refuse(LoadFailed(str(error)))
    except EngineError as error:
        server.refuse(error)
    except asyncio.CancelledError:
        raise
    except BaseException:  # noqa: BLE001 - a plugin may raise anything, an exit or a panic of a library too
        _log.exception("the engine did not load")
        server.refuse(LoadFailed("the engine could not be loaded; the log says why"))


def _build(told: Launch) -> Engine:
    with loading_step(_log, f"importing the plugin {told.plugin}"):
        plugin = load(told.plugin)
        engine = plugin.build(msgspec.msgpack.decode(told.settings, type=plugin.settings))
    # What libraries say of their own accord may hold prompts: the level is for the plugin alone.
    logging.getLogger(type(engine).__module__.partition(".")[0]).setLevel(told.log_level)
    return engine


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    transport.close()


if __name__ == "__main__":
    main()
