"""The port: held by the supervisor for its whole life, while servers and workers come and go behind it."""

import socket

from gateway.config import ConfigError, ServerSettings

# Connections that wait while no worker accepts them: as many as granian would let wait.
BACKLOG = 1024
# Of one connection; the kernel doubles it, for its own bookkeeping.
_UNSENT_BYTES = 128 * 1024


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
