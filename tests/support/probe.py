"""A route that says what the worker holds at the moment; a package of its own to the service that loads it."""

import asyncio
import os
import sys
import threading
from pathlib import Path

from litestar import Controller, get

from gateway.api.routes import ROUTES
from gateway.hosting.hosting import Hosting

_KEPT = ("asyncio_", "ThreadPoolExecutor-", "large-work", "store")
_ROOT = Path(__file__).resolve().parent.parent.parent


class ProbeController(Controller):
    @get("/probe")
    async def probe(self, hosting: Hosting) -> dict[str, int]:
        """Count what a request could leave behind."""
        return {
            "pid": os.getpid(),
            "running": sum(len(seat.running) for seat in hosting.engines),
            "tasks": len(asyncio.all_tasks()),
            # The threads of executors stay, and are few.
            "threads": sum(not thread.name.startswith(_KEPT) for thread in threading.enumerate()),
            "switch_us": round(sys.getswitchinterval() * 1e6),
            "fds": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - this one blocks nothing
        }


def python_path(folder: Path) -> str:
    """Install the probe into `folder`, as pip would have; return the `PYTHONPATH` that finds it."""
    folder.mkdir(exist_ok=True)
    (folder / "entry_points.txt").write_text(f"[{ROUTES}]\nprobe = {__name__}:ProbeController\n")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    return f"{folder.parent}:{_ROOT}"
