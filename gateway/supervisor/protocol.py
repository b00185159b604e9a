"""The messages between worker and supervisor: commands one way; replies, log lines and orders the other.

They go over a Unix socket in a private folder, framed as in `gateway.isolation.wire`.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from gateway.config import Config
from gateway.isolation import ProcessSpec

# The exit code of a server that could not start a worker for want of descriptors, processes or memory: EX_TEMPFAIL.
SHORTAGE = 75


class StartProcess(Struct, frozen=True, array_like=True, tag="start"):
    """Start an engine's process, or return the one that runs already."""

    call: int
    spec: ProcessSpec


class StopProcess(Struct, frozen=True, array_like=True, tag="end"):
    """Stop a process in one of three ways."""

    call: int
    pid: int
    how: Literal["dump", "leave", "kill"]


class NoEngineLoads(Struct, frozen=True, array_like=True, tag="hopeless"):
    """No engine can be loaded; the reason for each of them."""

    reasons: dict[str, str]


class EnginesSettled(Struct, frozen=True, array_like=True, tag="settled"):
    """Every engine of the start was tried, and what its load had to say is written."""


class Drained(Struct, frozen=True, array_like=True, tag="drained"):
    """The last request has ended."""


class WorkerBeat(Struct, frozen=True, array_like=True, tag="beat"):
    """The worker's event loop turns."""


class ProcessStarted(Struct, frozen=True, array_like=True, tag="running"):
    """The process runs and listens at `path`."""

    call: int
    pid: int
    path: str


class ProcessStopped(Struct, frozen=True, array_like=True, tag="over"):
    """The process has ended, or was dumped; `how` it ended."""

    call: int
    how: str


class StartFailed(Struct, frozen=True, array_like=True, tag="refused"):
    """The process could not be started."""

    call: int
    why: str


class LogLine(Struct, frozen=True, array_like=True, tag="said"):
    """A log record of the supervisor, or of a process that it runs."""

    level: str
    text: str
    extra: dict[str, str | float]


class Reload(Struct, frozen=True, array_like=True, tag="reload"):
    """Put another configuration into force."""

    config: Config


class Announce(Struct, frozen=True, array_like=True, tag="announce"):
    """Say to probes that the service goes down, and still take requests."""


class Drain(Struct, frozen=True, array_like=True, tag="drain"):
    """Refuse new requests, and report when the last one has ended."""


class ProcessesThere(Struct, frozen=True, array_like=True, tag="there"):
    """The engines whose processes run as the worker connects: an earlier one had them, or they were prepared."""

    names: tuple[str, ...]


class UpToDate(Struct, frozen=True, array_like=True, tag="told"):
    """All orders that were given before the worker connected have been sent."""


Command = StartProcess | StopProcess | NoEngineLoads | EnginesSettled | Drained | WorkerBeat
SupervisorReply = (
    ProcessStarted | ProcessStopped | StartFailed | LogLine | Reload | Announce | Drain | ProcessesThere | UpToDate
)

_COMMANDS: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_REPLIES: msgspec.msgpack.Decoder[SupervisorReply] = msgspec.msgpack.Decoder(SupervisorReply)


def read_command(body: bytes) -> Command:
    """Decode a message of the worker; raise `msgspec.MsgspecError`."""
    return _COMMANDS.decode(body)


def read_reply(body: bytes) -> SupervisorReply:
    """Decode a message of the supervisor; raise `msgspec.MsgspecError`."""
    return _REPLIES.decode(body)
