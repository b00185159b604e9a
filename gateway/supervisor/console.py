"""What the main process prints itself: on standard error, which may be a pipe that its reader has left full."""

import os
import threading

_STDERR = 2
_SECONDS = 0.5


class Console:
    """Writes to the descriptor `fd`, and gives up soon where that blocks; lines that were lost are told later."""

    def __init__(self, fd: int = _STDERR) -> None:
        self._fd = fd
        self._writing: threading.Thread | None = None
        self._lost = 0

    def print(self, *lines: str) -> None:
        """Print lines; return within half a second, also where they wait for a reader, or are lost behind those."""
        if self._writing is not None and self._writing.is_alive():
            self._lost += len(lines)
            return
        if self._lost:
            lines = (f"llm-gateway: {self._lost} lines were lost: nothing read them in time", *lines)
            self._lost = 0
        # A thread can be left behind: a descriptor that did not block would not for its other owners either.
        text = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        self._writing = threading.Thread(target=self._write, args=(text,), daemon=True)
        self._writing.start()
        self._writing.join(_SECONDS)

    def _write(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._fd, text) :]
        except OSError:
            return  # closed, or its reader is gone


console = Console()
