"""Lines written by a thread of their own, so that no caller waits for a full pipe or a slow disk."""

import os
import select
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

_BATCH = 256

# To wake the writer for each line costs its caller 0.4 ms, in which the two threads fight for the interpreter.
_GATHER_SECONDS = 0.02


class LogWriter:
    """A file descriptor with a bounded queue before it; lines that do not fit, or cannot be written, are counted.

    `tell` is called with the number of lines that were lost, when a line can be written again. No buffered stream is
    in between: a thread stuck in one would take the interpreter's exit along.
    """

    def __init__(self, fd: int, capacity: int = 8192, tell: Callable[[int], None] = lambda _: None) -> None:
        self.dropped = 0
        self._told = 0
        self._tell = tell
        self._fd = fd
        self._capacity = capacity
        self._queue: SimpleQueue[str | Event | None] = SimpleQueue()
        self._lock = Lock()
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Add a line, which ends with its newline; returns at once, always."""
        if self._queue.qsize() < self._capacity:
            self._queue.put(line)
        else:
            self._drop(1)

    def flush(self, timeout: float = 0.5) -> bool:
        """Wait until what was added is written; say whether it was, after at most `timeout` seconds."""
        written = Event()
        self._queue.put(written)
        return written.wait(timeout)

    def stop(self) -> None:
        """Write what can be written within half a second, and end the thread."""
        self._queue.put(None)
        self._thread.join(0.5)

    def _drop(self, lines: int) -> None:
        with self._lock:
            self.dropped += lines

    def _run(self) -> None:
        while True:
            batch, then = self._take()
            if batch and self._put_out(batch) and self.dropped > self._told:
                lost, self._told = self.dropped - self._told, self.dropped
                self._tell(lost)
            if isinstance(then, Event):
                then.set()
            elif then is None:
                return

    def _take(self) -> tuple[list[str], str | Event | None]:
        """Wait for lines; return those that are there, and what came behind them: "" for nothing."""
        lines: list[str] = []
        item = self._queue.get()
        if isinstance(item, str):
            time.sleep(_GATHER_SECONDS)
        while isinstance(item, str):
            lines.append(item)
            if len(lines) == _BATCH:
                return lines, ""
            try:
                item = self._queue.get_nowait()
            except Empty:
                return lines, ""
        return lines, item

    def _put_out(self, lines: list[str]) -> bool:
        """Write lines; return whether that was possible."""
        rest = memoryview("".join(lines).encode("utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except OSError:
                self._drop(len(lines))
                return False
        return True
