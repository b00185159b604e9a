"""One address has one listener, however another one writes that address."""

import asyncio
import socket

import pytest

from gateway.config import ConfigError, ServerSettings
from gateway.supervisor.listener import finish, listen, pause, resume
from tests.support.service import free_port

EVERY = "0.0.0.0"  # noqa: S104 - for a moment, and without a service
PAIRS = [
    ("127.0.0.1", "127.0.0.1"),
    (EVERY, "127.0.0.1"),
    ("127.0.0.1", EVERY),
    ("localhost", EVERY),
    ("::1", "::1"),
    ("::", "::1"),
    ("::1", "::"),
    ("::", "127.0.0.1"),
    (EVERY, "::"),
]


def at(host, port):
    return ServerSettings(host=host, port=port)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_cannot_listen_where_their_addresses_meet(first, second):
    port = free_port()
    with listen(at(first, port)), pytest.raises(ConfigError, match=f"cannot listen on {second} port {port}: Address"):
        listen(at(second, port))


def test_addresses_that_do_not_meet_share_a_port():
    port = free_port()
    with listen(at("127.0.0.1", port)), listen(at("127.0.0.2", port)), listen(at("::1", port)):
        pass


def test_a_port_that_another_program_is_willing_to_share_is_taken_all_the_same():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError):
            listen(at("127.0.0.1", other.getsockname()[1]))


def test_a_port_is_free_again_while_its_old_connections_are_remembered():
    port = free_port()
    with listen(at("127.0.0.1", port)) as listener, socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = listener.accept()
        accepted.close()  # the side that closes first remembers the connection for a minute
        client.recv(1)
    listen(at("127.0.0.1", port)).close()


def test_connections_wait_until_they_are_accepted_and_delay_no_token():
    port = free_port()
    with listen(at("127.0.0.1", port)) as listener, socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            accepted.sendall(b"x")
            assert client.recv(1) == b"x"


def test_a_port_that_is_paused_refuses_and_is_nobody_elses():
    port = free_port()
    with listen(at("127.0.0.1", port)) as listener:
        pause(listener)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for host in ("127.0.0.1", EVERY):
            with pytest.raises(ConfigError, match="Address already in use"):
                listen(at(host, port))
        resume(listener)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)
    listen(at("127.0.0.1", port)).close()  # the connections that are remembered do not hold it


async def test_what_waits_at_the_end_is_taken_and_nothing_else_begins():
    port = free_port()
    with listen(at("127.0.0.1", port)) as listener, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"question")
        ending = asyncio.create_task(finish(listener))
        await asyncio.sleep(0.05)
        assert not ending.done()
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", port), 0.05)
        accepted, _ = listener.accept()
        await ending
        listener.close()
        with accepted:
            assert accepted.recv(8) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(6) == b"answer"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
