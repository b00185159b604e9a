"""What the kernel says of this container's memory; nothing where no limit is set."""

from pathlib import Path

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


def _field(file: Path, name: str) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(words[1]) for words in lines if words[0] == name), 0)
