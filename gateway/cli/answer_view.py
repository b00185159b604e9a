"""How an answer appears: as the text that it is, or as Markdown that is drawn while it grows."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from gateway.cli.client import printable

# Often enough to follow, and seldom enough to leave the processor to the model.
_REFRESHES = 5
_CODE_COLORS = "ansi_dark"


class AnswerView(Protocol):
    """Shows one answer; a context that ends its last line."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def add(self, text: str, /) -> None:
        """Show the next piece."""
        ...


def view(console: Console, *, is_plain: bool) -> AnswerView:
    """Make the view of one answer: Markdown on a terminal that can write over what it shows."""
    if is_plain or not console.is_terminal or console.is_dumb_terminal:
        return PlainView(console)
    return MarkdownView(console)


class PlainView:
    """Shows pieces as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_begun or kind is KeyboardInterrupt:
            self._console.out("")

    def add(self, text: str) -> None:
        """Show the next piece."""
        self._is_begun = True
        self._console.out(printable(text), end="")


class MarkdownView:
    """Draws each block when it is finished, and below it the one that grows, as much of its end as there is room for.

    A finished block is never drawn again, so that a long answer costs no more for each piece than a short one.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._is_first = True
        self._live = Live(
            get_renderable=lambda: _End(self._text), console=console, refresh_per_second=_REFRESHES, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        text, self._text = self._text, ""
        self._live.stop()
        self._draw(text)

    def add(self, text: str) -> None:
        """Take the next piece."""
        whole = self._text + printable(text)
        if "\n" not in text or not (lines := _finished(whole)):
            self._text = whole
            return
        split = whole.split("\n")
        self._text = "\n".join(split[lines:])
        self._draw("\n".join(split[:lines]))

    def _draw(self, text: str) -> None:
        if text.strip():
            if not self._is_first:
                self._console.print()
            self._console.print(_markdown(text))
            self._is_first = False


class _End:
    """The last lines of a text in Markdown, as many as a terminal has room for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(_markdown(self._text), options, pad=False)
        yield from _joined(lines[-max(console.height - 2, 1) :])


def _joined(lines: list[list[Segment]]) -> Iterator[Segment]:
    for line in lines:
        yield from line
        yield Segment.line()


def _markdown(text: str) -> Markdown:
    """Read Markdown, with line breaks where the model made them, and links that show where they lead."""
    read = Markdown(text, code_theme=_CODE_COLORS, hyperlinks=False)
    for token in read.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return read


def _finished(text: str) -> int:
    """Count the lines before the last block, which may still grow."""
    begins = [token.map[0] for token in Markdown(text).parsed if token.level == 0 and token.map]
    return begins[-1] if begins else 0
