"""Shows on a terminal's standard error how a run goes."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.bench.plan import LoadLevel
from gateway.cli.bench.sample import Sample

# Drawing takes processor time from what is measured.
_REFRESHES_PER_SECOND = 2


class Display:
    """A bar a level, with the failures so far; shows nothing where standard error is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(
            *columns,
            TextColumn("{task.fields[failed]}", style="red"),
            console=console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, level: LoadLevel) -> None:
        """Begin a bar."""
        name = f"{level.name} clients" if level.rate is None else level.name
        self._failed = 0
        self._task = self._progress.add_task(name, total=level.limit, failed="")

    def see(self, sample: Sample) -> None:
        """Count an answer."""
        self._failed += sample.error is not None
        self._progress.update(self._task, advance=1, failed=f"{self._failed} failed" if self._failed else "")
