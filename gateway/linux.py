"""What only Linux can say or do: the container's memory, a child's end with its parent, the user behind a socket."""

import ctypes
import os
import signal
import socket
import struct
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_ROOT = Path("/sys/fs/cgroup")
# Version 2 of control groups, then version 1.
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file", "memory.events"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
        "memory/memory.oom_control",
    ),
)
# Version 1 says so where there is no limit.
_UNLIMITED = 2**62


def used_share(root: Path = _ROOT) -> float | None:
    """Say how much of the limit is used, from 0 to 1; files that the kernel can drop do not count."""
    for most, current, stat, droppable, _ in _FILES:
        try:
            limit = (root / most).read_text().strip()
            if limit == "max" or int(limit) >= _UNLIMITED:
                return None
            used = int((root / current).read_text()) - _field(root / stat, droppable)
            return max(used, 0) / int(limit)
        except (OSError, ValueError):
            continue
    return None


def oom_kills(root: Path = _ROOT) -> int:
    """Count the processes of this container that the kernel has killed for want of memory."""
    for *_, events in _FILES:
        try:
            return _field(root / events, "oom_kill")
        except OSError:
            continue
    return 0


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process with the process `parent`, however that ends; end at once if it has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def peer_is_this_user(peer: socket.socket) -> bool:
    """Tell whether the process at the other end of a Unix socket runs as this one's user."""
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(found)[1] == os.geteuid())


def resident_bytes(pid: int, root: Path = Path("/proc")) -> int | None:
    """Return the memory that a process has in RAM; `None` where there is no such process, or no Linux."""
    try:
        return _field(root / str(pid) / "status", "VmRSS:") * 1024
    except OSError:
        return None


def _field(file: Path, name: str) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(words[1]) for words in lines if words[0] == name), 0)
