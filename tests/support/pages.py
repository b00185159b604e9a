"""A small HTTP server on loopback that answers with fixed pages."""

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Page(NamedTuple):
    """What a path answers with."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"


@contextlib.contextmanager
def serving(pages: Mapping[str, Page], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve pages by path, and 404 elsewhere, by TLS where that is given; yield the server's host and port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path, Page(status=404))
            self.send_response(page.status)
            self.send_header("content-type", page.content_type)
            self.send_header("content-length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        do_DELETE = do_GET  # noqa: N815 - the name is the base's

        def log_message(self, *_: object) -> None:
            """Keep the tests' output free of it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
