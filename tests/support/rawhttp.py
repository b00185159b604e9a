"""A client that sends exactly the bytes it is given, so that a test can break every rule of HTTP."""

import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Self

JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"


@dataclass
class RawAnswer:
    """An answer as it came; the names of headers are in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict:
        return json.loads(self.body)["error"]


class RawHTTP:
    """One connection to a port of this machine."""

    def __init__(self, port: int, seconds: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, *pieces: bytes) -> Self:
        self.socket.sendall(b"".join(pieces))
        return self

    def answer(self) -> RawAnswer:
        """Read one answer; the status is 0 where the connection was closed without one."""
        try:
            status_line = self._reader.readline()
        except ConnectionResetError:
            status_line = b""
        if not status_line:
            return RawAnswer(0)
        answer = RawAnswer(int(status_line.split()[1]))
        while line := self._reader.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            answer.headers[name.lower()] = value.strip()
        if 100 <= answer.status < 200:
            return answer
        answer.body = self._body(answer.headers)
        return answer

    def read_until(self, mark: bytes) -> bytes:
        """Read lines up to one that holds `mark`."""
        text = b""
        while mark not in text:
            line = self._reader.readline()
            if not line:
                raise EOFError(text)
            text += line
        return text

    def is_closed(self) -> bool:
        """Read on until the other side closes; raise `TimeoutError` where it does not."""
        try:
            while self._reader.read(4096):
                pass
        except ConnectionResetError:
            pass
        return True

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reader.close()
        self.socket.close()

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._reader.readline(), 16):
                body += self._reader.read(size)
                self._reader.readline()
            self._reader.readline()
            return body
        return self._reader.read(int(headers.get("content-length", 0)))


def request(method: str = "GET", path: str = "/livez", *headers: str, host: str = "localhost") -> bytes:
    """Write the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def post(body: bytes | dict, *headers: str, path: str = "/v1/generate") -> bytes:
    """Write a whole request with a JSON body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", path, JSON, f"Content-Length: {len(content)}", *headers) + content


def exchange(port: int, *pieces: bytes) -> RawAnswer:
    """Send on a connection of its own, and read one answer."""
    with RawHTTP(port) as connection:
        return connection.send(*pieces).answer()


def connected(port: int) -> RawHTTP:
    """Connect as soon as somebody listens."""
    until = time.monotonic() + 20
    while True:
        try:
            return RawHTTP(port)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
