import itertools
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import requests

from gateway.telemetry.collector import bounded_session


@contextmanager
def collector(head: bytes, piece: bytes, pause: float = 0.0):
    """Answer every request with a head, and then with one piece after another; the bytes sent are counted."""
    sent = []

    def answer(connection):
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(head)
                for _ in itertools.repeat(None, 100_000):
                    connection.sendall(piece)
                    sent.append(len(piece))
                    time.sleep(pause)
            except OSError:
                return

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces", sent
        listener.shutdown(socket.SHUT_RDWR)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNK = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"


@pytest.mark.parametrize(
    ("head", "piece", "pause"),
    [
        (OK + b"\r\n", b"x" * 65_536, 0.0),
        (OK + b"Content-Length: 9999999999\r\n\r\n", b"x" * 65_536, 0.0),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK, 0.0),
        (OK, b"X-More: again\r\n", 0.0),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),
        (OK + b"\r\n", b"x", 0.05),
    ],
    ids=["no length", "a huge length", "chunks", "headers", "interim answers", "drops"],
)
def test_an_answer_without_an_end_is_an_error(head, piece, pause):
    with collector(head, piece, pause) as (url, sent), bounded_session() as session:
        with pytest.raises(requests.RequestException):
            session.post(url, data=b"spans", timeout=2)
        assert sum(sent) < 16 * 2**20  # what the sockets' buffers took, and no more


def test_a_small_answer_is_read_and_the_connection_kept():
    head = OK + b"Content-Length: 2\r\n\r\nok"
    with collector(head, b"") as (url, _), bounded_session() as session:
        assert session.post(url, data=b"spans", timeout=2).content == b"ok"
