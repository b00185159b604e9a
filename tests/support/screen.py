"""The screen of a terminal, as a person would see it: a program on a pseudo-terminal, or whatever writes to one."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

import pyte
from rich.style import Style
from rich.text import Text

CTRL_C, CTRL_D = "\x03", "\x04"
ENTER, ALT_ENTER = "\r", "\x1b\r"
UP, LEFT = "\x1b[A", "\x1b[D"


def _color(name):
    """Translate pyte's name of a colour to rich's."""
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return {"default": None, "brown": "yellow"}.get(name, name.replace("bright", "bright_"))


def paste(text):
    """The keys that a terminal sends for a pasted text, where the program asked it to mark them."""
    return f"\x1b[200~{text}\x1b[201~"


class Screen:
    """What the terminal behind a descriptor shows; `raw` is all that was ever written to it."""

    def __init__(self, fd, columns=100, lines=40):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._fd = fd
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    @property
    def lines(self):
        """The lines that are not empty, from above."""
        self._read(0)
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def as_text(self):
        """What is shown, with its colours, and without the empty lines below it."""
        shown = Text()
        last = max((row for row, line in enumerate(self._screen.display) if line.strip()), default=0)
        for row in range(last + 1):
            for column in range(self._screen.columns):
                char = self._screen.buffer[row][column]
                shown.append(char.data, Style(color=_color(char.fg), bold=char.bold))
            shown.rstrip()
            shown.append("\n")
        return shown

    def wait_for(self, text, seconds=60.0):
        """Read until `text` is shown; return the lines."""
        return self.wait_until(lambda lines: any(text in line for line in lines), seconds)

    def wait_until(self, condition, seconds=60.0):
        """Read until `condition` holds for the lines; return them."""
        until = time.monotonic() + seconds
        while not condition(self.lines):
            assert time.monotonic() < until, "the screen shows\n" + "\n".join(self.lines)
            self._read(0.1)
        return self.lines

    def clear(self):
        """Forget what is shown, so that it is not found again."""
        self._read(0)
        self._screen.reset()

    def type(self, text):
        """Press keys."""
        os.write(self._fd, text.encode())

    def _read(self, seconds):
        while select.select([self._fd], [], [], seconds)[0]:
            try:
                piece = os.read(self._fd, 65_536)
            except OSError:  # the program has ended
                return
            self.raw += piece
            self._stream.feed(piece)
            seconds = 0


class Terminal(Screen):
    """A command of the gateway on a terminal of its own."""

    def __init__(self, *arguments, **environment):
        self._ended = False
        self.pid, fd = pty.fork()
        if self.pid == 0:
            words = [sys.executable, "-m", "gateway", *arguments]
            os.execve(sys.executable, words, os.environ | {"TERM": "xterm-256color"} | environment)  # noqa: S606 - no shell is wanted
        super().__init__(fd)

    def wait_for_prompt(self):
        """Wait until something was shown and the prompt is empty again; return the lines."""
        return self.wait_until(lambda lines: len(lines) > 1 and lines[-1] == ">")

    def kill(self):
        """End it, if it has not ended."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._fd)

    def end(self):
        """Wait until it has ended; return its exit code."""
        ended, until = (0, 0), time.monotonic() + 60
        while not ended[0]:
            assert time.monotonic() < until, "the command goes on:\n" + "\n".join(self.lines)
            self._read(0)
            ended = os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0.01)
        self._ended = True
        os.close(self._fd)
        return os.waitstatus_to_exitcode(ended[1])
