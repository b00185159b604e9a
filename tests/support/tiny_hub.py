"""A hub on this machine: serves one model's folder in the way of the Hugging Face Hub, and counts what it was asked."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class TinyHub:
    """Serves the files of `folder` as the model `name`; `asked` lists the paths of all requests."""

    def __init__(self, name: str, folder: Path) -> None:
        self.asked: list[str] = []
        self._name = name
        self._folder = folder
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self, *, with_body: bool) -> None:
                hub.asked.append(self.path)
                path = self.path.partition("?")[0]
                if path.startswith(f"/api/models/{name}"):
                    listed = hub.listed() if "/tree/" in path else hub.described()
                    return self._send(json.dumps(listed).encode(), with_body)
                file = folder / path.removeprefix(f"/{name}/resolve/{_COMMIT}/")
                if path.startswith(f"/{name}/resolve/") and file.is_file():
                    return self._send(file.read_bytes(), with_body)
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                return self.end_headers()

            def _send(self, body: bytes, with_body: bool) -> None:  # noqa: FBT001 - a HEAD has none
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{_digest(body)}"')
                self.send_header("X-Repo-Commit", _COMMIT)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def described(self) -> dict[str, object]:
        """Say what the model is, and the names of its files."""
        files = [{"rfilename": file["path"], "size": file["size"]} for file in self.listed()]
        return {"id": self._name, "sha": _COMMIT, "siblings": files}

    def listed(self) -> list[dict[str, object]]:
        """Say the model's files."""
        files = [file for file in sorted(self._folder.rglob("*")) if file.is_file()]
        return [
            {
                "type": "file",
                "path": file.relative_to(self._folder).as_posix(),
                "size": file.stat().st_size,
                "oid": _digest(file.read_bytes()),
            }
            for file in files
        ]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
