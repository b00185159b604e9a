"""What only Linux can say or do: the container's memory, a child's end with its parent, the user behind a socket."""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX of glibc's `mallopt`.
_MALLOC = {-3: 256 * 1024, -1: 256 * 1024, -8: 2}
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
# How the system says that it is short of descriptors, processes, memory or space.
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT})


def is_shortage(error: Exception) -> bool:
    """Tell whether an error says that the system is short of something, so that a later attempt may succeed.

    Python's error for want of threads is a `RuntimeError`.
    """
    return error.errno in _SHORT if isinstance(error, OSError) else str(error) == "can't start new thread"


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


class Lifeline:
    """Has the kernel kill a process group when this process ends, however it ends: what a child has started, too.

    It is a pipe that nothing is ever written to. This process alone holds its writing end; when the kernel closes that,
    it signals the owner of the reading end (fcntl(2), F_SETOWN and F_SETSIG), which is the group. A process that leaves
    its group escapes. The group's first process should inherit `descriptor`, the reading end, so that it stays open.
    """

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()

    def tie(self, group: int) -> None:
        """Tie a process group to this process, by its id; one that has ended already needs no tie."""
        if sys.platform != "linux":
            return
        with contextlib.suppress(ProcessLookupError):
            fcntl.fcntl(self.descriptor, fcntl.F_SETOWN, -group)
            fcntl.fcntl(self.descriptor, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_ASYNC)

    def cut(self) -> None:
        """Kill what is left of the group; again is no error."""
        if self._writer >= 0:
            os.close(self._writer)
            os.close(self.descriptor)
            self._writer = -1


def give_back_freed_memory() -> None:
    """Have glibc return large blocks to the kernel once they are freed, and keep to two heaps for all threads.

    Left to itself it takes blocks of megabytes from its heaps after the first was freed, and gives little back.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none, and macOS
        for option, value in _MALLOC.items():
            libc.mallopt(option, value)


def peer_is_this_user(peer: socket.socket) -> bool:
    """Tell whether the process at the other end of a Unix socket runs as this one's user."""
    return _credentials(peer)[1] == os.geteuid()


def peer_pid(peer: socket.socket) -> int:
    """Return the process that connected a Unix socket."""
    return _credentials(peer)[0]


def resident_bytes(pid: int, root: Path = Path("/proc")) -> int | None:
    """Return the memory that a process has in RAM; `None` where there is no such process, or no Linux."""
    try:
        return _field(root / str(pid) / "status", "VmRSS:") * 1024
    except OSError:
        return None


def cpu_seconds(pid: int, root: Path = Path("/proc")) -> float | None:
    """Return the seconds that a process, and what it started and waited for, has computed; `None` without Linux."""
    try:
        # The name of the program, in parentheses, may hold anything; after it the times are fields 11 to 14 (proc(5)).
        words = (root / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


def _credentials(peer: socket.socket) -> tuple[int, ...]:
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(found)


def _field(file: Path, name: str) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(words[1]) for words in lines if words[0] == name), 0)
