"""Steps of loading as bars below the lines of a terminal."""

import io
from collections.abc import Iterable
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.telemetry.steps import SHORT, StepKey, Write
from gateway.telemetry.text import escape


class StepBars:
    """Shows a bar for each step under way, and what it took in the bar's place, unless it ends within a second.

    No step of it is a line of the log.

    Import it where the first step begins: rich takes 70 ms.
    """

    def __init__(self, write: Write, columns: int) -> None:
        self._write = write
        self._steps: dict[StepKey, tuple[TaskID, float]] = {}
        self._progress = Progress(
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(text_format_no_percentage=""),
            TimeElapsedColumn(),
            console=_Console(file=_Stream(write), force_terminal=True, width=columns),
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @property
    def is_possible(self) -> bool:
        """Whether the terminal can write over what it shows."""
        return not self._progress.console.is_dumb_terminal

    def write(self, line: str) -> None:
        """Write a line of the log above the bars."""
        if self._steps:
            self._progress.console.out(line.removesuffix("\n"), highlight=False)
        else:
            self._write(line)

    def take(self, step: StepKey, progress: float, text: str) -> bool:
        """Take note of how far a step is; return whether its record is a line of the log."""
        if step not in self._steps:
            self._steps[step] = self._progress.add_task(escape(text), total=None), monotonic()
            self._progress.start()
        task, begun = self._steps[step]
        if progress >= 1:
            self._remove([step])
            if monotonic() - begun >= SHORT:
                self.write(f"  {escape(text)}\n")
            return False
        if progress > 0:
            self._progress.update(task, total=1.0, completed=progress)
        return False

    def end(self, owner: str) -> None:
        """Take the bars of an owner off the screen."""
        self._remove([step for step in self._steps if step[0] == owner])

    def close(self) -> None:
        """Take all bars off the screen."""
        self._remove(list(self._steps))

    def _remove(self, steps: Iterable[StepKey]) -> None:
        for step in steps:
            self._progress.remove_task(self._steps.pop(step)[0])
        if not self._steps:
            self._progress.stop()


class _Console(Console):
    """A console that leaves the cursor visible: a process that is killed could not show it again."""

    def show_cursor(self, show: bool = True) -> bool:  # noqa: FBT001, FBT002 - the signature is rich's
        del show
        return False


class _Stream(io.StringIO):
    """The file that rich writes to: the queue of the log's writer."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)
