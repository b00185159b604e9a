"""Jobs for the processes that compile and check, and their results: frames over a Unix socket."""

import socket
import struct

import msgspec
from msgspec import Struct

from gateway.engine import Constraint

_LENGTH = struct.Struct("<I")


class CompileBudget(Struct, frozen=True):
    """What one job may take: seconds of processor time, and MiB of memory beyond what the process has."""

    seconds: float
    mib: int

    def __str__(self) -> str:
        return f"{self.seconds:g} s of processor time or {self.mib} MiB"


class Nursing(Struct, frozen=True):
    """What the first process has to know: the tokenizer's JSON, the ids of the model, and the budget of a job."""

    tokenizer: str
    vocabulary: int
    ends: list[int]
    budget: CompileBudget


class Hello(Struct, frozen=True):
    """The first message of a process that takes jobs."""

    pid: int


class Job(Struct, frozen=True):
    """Compile a constraint; with a text, check that instead."""

    constraint: Constraint
    text: str | None = None


class JobResult(Struct, frozen=True):
    """A grammar and the bytes that it took to compile, or what is wrong. `last` comes from a process that then ends."""

    grammar: str = ""
    size: int = 0
    fault: str | None = None
    last: bool = False


def send(channel: socket.socket, message: Struct) -> None:
    """Send a message; raise `OSError` where the other end is gone."""
    body = msgspec.msgpack.encode(message)
    channel.sendall(_LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket) -> bytes:
    """Receive the body of a message; raise `EOFError` where the other end is gone."""
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    return _exactly(channel, length)


def _exactly(channel: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        piece = channel.recv(min(length - len(found), 1 << 20))
        if not piece:
            raise EOFError("the other end is gone")
        found += piece
    return bytes(found)
