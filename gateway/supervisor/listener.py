"""The port: held by the supervisor for its whole life, while servers and workers come and go behind it."""

import asyncio
import contextlib
import ctypes
import socket
import struct

from gateway.config import ConfigError, ServerSettings

# Connections that wait while no worker accepts them: as many as granian would let wait.
BACKLOG = 1024
# Of one connection; the kernel doubles it, for its own bookkeeping.
_UNSENT_BYTES = 128 * 1024
# For the connections that wait at the end: they are taken within milliseconds.
_LAST_SECONDS = 1.0
_LOOK_SECONDS = 0.001
# Of the kernel's `tcp_info`: `tcpi_unacked`, which counts for a listener the connections that wait to be accepted.
_TCP_INFO_BYTES, _WAITING = 104, 24
_SO_ATTACH_FILTER = 26
# Load the byte of a segment that has the flags; is SYN among them? then keep nothing of it, else all.
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))


def listen(server: ServerSettings) -> socket.socket:
    """Listen on the configured address; raise `ConfigError` where that cannot be, as when another service has it.

    The socket does not share its port (`SO_REUSEPORT`), as granian's own would: of two services that start at the same
    time one fails here. `SO_REUSEADDR` is for the connections of a service that has ended, and never lets two listen.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Each connection has it from its listener: a token must not wait for the next one.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # What a client leaves unread is held by the kernel up to here, beyond it by nobody; and not for ever.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(server.stall_seconds * 1_000))
            listener.settimeout(0.0)  # granian waits for connections itself
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen on {server.host} port {server.port}: {error.strerror}") from error
    return listener


def pause(listener: socket.socket) -> None:
    """Refuse connections until `resume`; the port stays this service's.

    A proxy goes on to another replica at once where it is refused, and waits where a connection is taken and no worker
    is there yet to answer.
    """
    # Without it the kernel lets another service have the port of a socket that does not listen.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    listener.shutdown(socket.SHUT_RD)


def resume(listener: socket.socket) -> None:
    """Take connections again."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.listen(BACKLOG)


async def finish(listener: socket.socket) -> None:
    """Let no further connection begin, and return when the server has taken those that wait; close it then.

    To close a listener resets what waits in it, and a client may have sent its request there already. A connection that
    would begin meanwhile is not answered by the kernel: its client asks again after a second, and is refused.
    """
    with contextlib.suppress(OSError):  # where the kernel has no filters, as in a sandbox
        _drop_first_packets(listener)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_SECONDS):
            while _waiting(listener):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_LOOK_SECONDS)


def _drop_first_packets(listener: socket.socket) -> None:
    """Drop each packet with the flag SYN by a filter of the kernel's (BPF)."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _NO_SYN))
    address = struct.pack("HP", len(_NO_SYN), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, address)


def _waiting(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    return int(struct.unpack_from("I", info, _WAITING)[0])
