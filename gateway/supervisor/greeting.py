"""What a start says of the service: at once as lines, or on a terminal, once it serves, as one panel."""

import io
import os
from collections.abc import Iterator

from gateway import __version__
from gateway.config import Config, ServerSettings, command, is_dumb
from gateway.supervisor.console import Console, console

_STDOUT, _STDERR = 1, 2
# Of a terminal that does not say, and the widest that a panel gets.
_COLUMNS, _WIDEST = 80, 76


class Greeting:
    """Says once where the service is.

    A terminal that also shows the log gets a line at the start, then the steps of loading, then the panel.
    """

    def __init__(self, config: Config, out: Console = console) -> None:
        self._config = config
        self._out = out
        self._waits = _is_for_people(config)

    def begin(self) -> None:
        """Say that the service starts."""
        if self._waits:
            self._out.print(f"LLM gateway {__version__} starts at {self._config.server.url}; Ctrl-C ends it")
        else:
            self._out.print(*_lines(self._config))

    def settle(self) -> None:
        """Say where the service is, when its models are loaded; later calls, as by another worker, say nothing."""
        if self._waits:
            self._waits = False
            columns = os.get_terminal_size(_STDERR).columns or _COLUMNS
            self._out.print(panel(self._config, columns))


def panel(config: Config, columns: int) -> str:
    """Draw the addresses in a frame."""
    from rich.console import Console as Page  # noqa: PLC0415 - rich is for terminals
    from rich.panel import Panel  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    rows = Table.grid(padding=(0, 2))
    more = [("metrics", f"{config.server.url}/metrics")] if config.telemetry.metrics_enabled else []
    for name, address in (*_addresses(config), *more, ("chat", _chat(config))):
        rows.add_row(f"[bold]{name}[/bold]", address)
    page = Page(file=io.StringIO(), force_terminal=True, width=min(columns, _WIDEST), highlight=False)
    with page.capture() as drawn:
        page.print(Panel(rows, title=f"LLM gateway {__version__}", title_align="left", border_style="green"))
    return drawn.get().rstrip("\n")


def _is_for_people(config: Config) -> bool:
    """Tell whether what starts is shown on a terminal, beside a log for people."""
    is_shown = os.isatty(_STDOUT) and os.isatty(_STDERR) and os.path.sameopenfile(_STDOUT, _STDERR)
    return is_shown and not is_dumb() and config.telemetry.log_format != "json"


def _lines(config: Config) -> Iterator[str]:
    yield f"LLM gateway {__version__}"
    for name, address in _addresses(config):
        yield f"  {name:7} {address}"
    yield ""
    yield "Try it, in another terminal:"
    body = '{"prompt":"The capital of France is","max_new_tokens":16,"temperature":0}'
    yield f"  curl -s {config.server.url}/v1/generate --json '{body}'"
    yield f"  {_chat(config)}"
    yield ""


def _addresses(config: Config) -> Iterator[tuple[str, str]]:
    url = config.server.url
    yield "API", f"{url}/v1"
    if config.server.playground:
        yield "page", f"{url}/"
    if config.server.docs:
        yield "docs", f"{url}/schema"
    yield "health", f"{url}/v1/health"


def _chat(config: Config) -> str:
    return f"{command()} chat" + ("" if config.server.port == ServerSettings().port else f" --url {config.server.url}")
