"""Pass the configuration from the supervisor to the server, and from there to each worker.

It lies in a file in memory, whose descriptor the children inherit: of any size, read by no other user and shown in no
list of processes. The supervisor writes it again at a reload, so that a worker begins with the newest one.
"""

import hashlib
import os
import time

import msgspec
from msgspec import Struct

from gateway.config.layers import ConfigError
from gateway.config.schema import Config
from gateway.config.sources import HANDOVER

_DIGEST = 32
_TRIES = 100
_AGAIN_SECONDS = 0.02


class Handover(Struct, frozen=True, kw_only=True):
    """The configuration and the resources of a child process.

    `listener` is the descriptor of the socket to accept connections on, `control` the path of the supervisor's socket,
    and `log` the descriptor that the log is written to.
    """

    config: Config
    listener: int
    control: str
    log: int = 1


class HandoverFile:
    """The file in memory; a child that shall take it over inherits the descriptor `fd`."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("llm-gateway-handover")

    def write(self, handover: Handover) -> None:
        """Put `handover` in the place of the one before, for the children of this process."""
        body = msgspec.json.encode(handover)
        with os.fdopen(os.dup(self.fd), "wb") as file:
            file.seek(0)
            file.write(hashlib.sha256(body).digest() + body)
            file.truncate()
        _leave(self.fd, handover.log)


def relay(log: int) -> Handover:
    """Take what the supervisor handed over, and hand it on to the worker, which logs to `log`."""
    found = handed_over()
    if found is None:
        raise ConfigError("the server is started by llm-gateway serve")
    _, fd, _ = os.environ[HANDOVER].split()
    _leave(int(fd), log)
    # It has removed the endpoints already; the worker's SDK would switch off the metrics too, which are never sent.
    os.environ.pop("OTEL_SDK_DISABLED", None)
    return found


def handed_over() -> Handover | None:
    """Return what the parent process handed over; `None` if another server runs the application."""
    text = os.environ.get(HANDOVER)
    if not text:
        return None
    giver, fd, log = map(int, text.split())
    if giver != os.getppid():
        return None
    return msgspec.structs.replace(msgspec.json.decode(_read(fd), type=Handover), log=log)


def _leave(fd: int, log: int) -> None:
    os.environ[HANDOVER] = f"{os.getpid()} {fd} {log}"


def _read(fd: int) -> bytes:
    """Read the file; again, where it was just being written."""
    for _ in range(_TRIES):
        content = os.pread(fd, os.fstat(fd).st_size, 0)
        if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
            return content[_DIGEST:]
        time.sleep(_AGAIN_SECONDS)
    raise ConfigError("the configuration that was handed over cannot be read")
