"""Finds the processes of a running service, by what they run."""

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """List the processes that `pid` started, and those that they started."""
    found = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def engines(pid: int) -> list[int]:
    """List the engines' processes.

    What an engine starts has its command line until it runs its own program, and is no engine.
    """
    found = []
    for child in _children(pid):
        found += [child] if "gateway.isolation.child" in _command(child) else engines(child)
    return found


def server(pid: int) -> int:
    """Find granian's main process; 0 while there is none."""
    return next((child for child in _children(pid) if "gateway.server" in _command(child)), 0)


def worker(pid: int) -> int:
    """Find the HTTP worker, what granian's main process forked; 0 while there is none."""
    main = server(pid)
    return next(iter(_children(main)), 0) if main else 0


def is_alive(pid: int) -> bool:
    """Say whether the process runs; one that is over and not yet waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def open_files(pid: int) -> int:
    """Count the open descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
