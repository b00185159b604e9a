"""A real nginx in front of replicas, with the configuration that `deploy/` tells people to use."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy/nginx/nginx.conf"
PREFIX_FILE = FILE.with_name("prefix.conf")
MISSING = "nginx is not installed: Debian's nginx-light has it"
_ADDRESS = re.compile(r"127\.0\.0\.1:8080")
_REPLICAS = re.compile(r"(?: +server 127\.0\.0\.1:800\d max_fails=0;\n)+")


def program() -> str | None:
    """Find nginx, which a user without rights does not have on the path."""
    return shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def configured(port: int, replicas: Sequence[int]) -> str:
    """Return the configuration of `deploy/` with other addresses, and nothing else changed."""
    text, listeners = _ADDRESS.subn(f"127.0.0.1:{port}", FILE.read_text())
    servers = "".join(f"        server 127.0.0.1:{replica} max_fails=0;\n" for replica in replicas)
    text, groups = _REPLICAS.subn(servers, text)
    if (listeners, groups) != (1, 2):
        raise ValueError(f"{FILE} has {listeners} listeners and {groups} groups of replicas")
    return text


def under_prefix(port: int, gateway: int, *, strips: bool) -> str:
    """Return the configuration for a path of a site with other addresses; `strips` has it take the path off."""
    text = PREFIX_FILE.read_text()
    changes = [("127.0.0.1:8443", f"127.0.0.1:{port}"), ("127.0.0.1:8000", f"127.0.0.1:{gateway}")]
    changes += [("proxy_pass http://gateway;", "proxy_pass http://gateway/;")] if strips else []
    for old, new in changes:
        if old not in text:
            raise ValueError(f"{PREFIX_FILE} has no {old}")
        text = text.replace(old, new)
    return text


class Proxy:
    """nginx as a child in the foreground, in a folder of its own; a context that ends it.

    Without a `text` of its own it has the configuration for several replicas. `files` are laid beside it.
    """

    def __init__(self, port: int, replicas: Sequence[int], text: str = "", files: Sequence[Path] = ()) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._text = text or configured(port, replicas)
        self._files = files

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="proxy-test-")
        file = Path(self._folder.name, "nginx.conf")
        file.write_text(self._text)
        for each in self._files:
            shutil.copy(each, self._folder.name)
        self._log = Path(self._folder.name, "log")
        with self._log.open("wb") as log:
            command = [program(), "-p", self._folder.name, "-c", str(file), "-g", "daemon off;"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        self._folder.cleanup()

    def _wait(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError(f"nginx does not start:\n{self._log.read_text()}")
