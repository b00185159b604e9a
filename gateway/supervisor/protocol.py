"""The messages between the worker and the supervisor: commands one way; replies, log lines and reloads the other.

They go over a Unix socket in a private folder, framed as in `gateway.isolation.wire`.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from gateway.config import Config
from gateway.isolation import ProcessSpec


class StartProcess(Struct, frozen=True, array_like=True, tag="start"):
    """Run an engine's process, or say where it runs already."""

    call: int
    recipe: ProcessSpec


class StopProcess(Struct, frozen=True, array_like=True, tag="end"):
    """End a process in one of three ways."""

    call: int
    pid: int
    how: Literal["dump", "leave", "kill"]


class NoEngineLoads(Struct, frozen=True, array_like=True, tag="hopeless"):
    """No engine can ever be loaded; why each of them cannot."""

    reasons: dict[str, str]


class Drained(Struct, frozen=True, array_like=True, tag="drained"):
    """No request waits or runs any more."""


class ProcessStarted(Struct, frozen=True, array_like=True, tag="running"):
    """The process runs, and serves at `path`."""

    call: int
    pid: int
    path: str


class ProcessStopped(Struct, frozen=True, array_like=True, tag="over"):
    """The process was dumped, or has ended, and how."""

    call: int
    how: str


class StartFailed(Struct, frozen=True, array_like=True, tag="refused"):
    """The process could not be started."""

    call: int
    why: str


class LogLine(Struct, frozen=True, array_like=True, tag="said"):
    """A line for the log, of an engine's process or of the supervisor."""

    level: str
    text: str
    extra: dict[str, str | float]


class Reload(Struct, frozen=True, array_like=True, tag="reload"):
    """Go by another configuration."""

    config: Config


class Drain(Struct, frozen=True, array_like=True, tag="drain"):
    """Refuse new requests, and say when the last one has ended."""


Command = StartProcess | StopProcess | NoEngineLoads | Drained
SupervisorReply = ProcessStarted | ProcessStopped | StartFailed | LogLine | Reload | Drain

_COMMANDS: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_REPLIES: msgspec.msgpack.Decoder[SupervisorReply] = msgspec.msgpack.Decoder(SupervisorReply)


def read_command(body: bytes) -> Command:
    """Read what the worker sent; raise `msgspec.MsgspecError`."""
    return _COMMANDS.decode(body)


def read_reply(body: bytes) -> SupervisorReply:
    """Read what the supervisor sent; raise `msgspec.MsgspecError`."""
    return _REPLIES.decode(body)
