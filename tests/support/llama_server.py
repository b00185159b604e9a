"""A real `llama-server` with the built-in model, where there is one on this machine."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from gateway_hf.loading import builtin
from tests.support.service import free_port

# The program, where it is not on the PATH; and flags that this machine needs, as `--no-repack` where AMX fails.
PROGRAM = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
_FLAGS = ("--no-warmup", "--jinja", *os.environ.get("LLAMA_FLAGS", "").split())
_START_SECONDS = 120


@contextmanager
def llama_server(program: str, folder: Path, places: int, context: int) -> Iterator[str]:
    """Run it with so many places of `context` tokens; yield its URL with the version."""
    port, log = free_port(), folder / "log"
    sizes = ["--ctx-size", str(places * context), "--parallel", str(places), "--threads", "1"]
    own = ["--model", str(builtin.locate()), "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("wb") as output,
        subprocess.Popen([program, *own, *sizes, *_FLAGS], stdout=output, stderr=output) as it,
    ):
        try:
            until = time.monotonic() + _START_SECONDS
            while not _is_up(f"http://127.0.0.1:{port}/health"):
                if it.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"llama-server does not come up:\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            it.terminate()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
