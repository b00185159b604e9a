"""`llm-gateway top`: a running gateway, watched."""

import argparse
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from prompt_toolkit.input import create_input
from prompt_toolkit.keys import Keys
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.client import FOREIGN, GatewayClient, GatewaySaysNo, complain, printable
from gateway.cli.listing import size
from gateway.cli.look import EngineLook, Look, Looker
from gateway.cli.models import REQUESTS, to_cells

_COLORS = {"ready": "green", "starting": "yellow", "draining": "yellow", "unloaded": "dim", "failed": "red"}
_LEAVING = {"q", Keys.ControlC, Keys.ControlD, Keys.Escape}
# Lines of the screen that are no request's.
_OTHER_LINES = 10
_ENGINES = ("engine", "model", "status", "running", "waiting", "memory", "cached tokens", "")

Wait = Callable[[float], bool]


def run(options: argparse.Namespace, client: GatewayClient) -> int:
    """Watch until `q` or Ctrl-C, or for a count of looks; return the exit code."""
    console = Console(highlight=False)
    is_live = console.is_terminal and not console.is_dumb_terminal and not options.json and options.count is None
    try:
        with client:
            looker = Looker(client)
            if is_live:
                _watch(looker, console, options.interval)
            else:
                _list(looker, console, options)
    except GatewaySaysNo as error:
        return complain(str(error))
    except FOREIGN as error:
        return complain(client.away(error))
    except KeyboardInterrupt:
        return 0
    return 0


def _watch(looker: Looker, console: Console, interval: float) -> None:
    """Show look after look in one place; a gateway that was there once may be away for a while."""
    shown = looker.look()
    with _keys() as wait, Live(render(shown, console.height), console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while wait(interval):
            try:
                shown, trouble = looker.look(), ""
            except (GatewaySaysNo, *FOREIGN) as error:
                trouble = f"it does not answer since {_age(time.time() - shown.time)}: {error}"
            live.update(render(shown, console.height, trouble), refresh=True)


def _list(looker: Looker, console: Console, options: argparse.Namespace) -> None:
    """Print look after look, one below the other. Rates need one before the first."""
    looker.look()
    for _ in range(options.count or 1):
        time.sleep(options.interval)
        look = looker.look()
        if options.json:
            print(msgspec.json.encode(look).decode(), flush=True)
        else:
            console.print(render(look, sys.maxsize))


@contextmanager
def _keys() -> Iterator[Wait]:
    """Read keys while the block runs; yield what waits some seconds, and says whether to go on."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    keys = create_input(sys.stdin)

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            if select.select([keys.fileno()], [], [], rest)[0]:
                pressed = [*keys.read_keys(), *keys.flush_keys()]
                if any(press.key in _LEAVING for press in pressed) or keys.closed:
                    return False
        return True

    with keys.raw_mode():
        yield wait


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def render(look: Look, lines: int, trouble: str = "") -> RenderableType:
    """Draw a look, as many requests of it as fit into `lines`."""
    room = max(lines - _OTHER_LINES - len(look.engines) - len(look.notes), 1)
    parts: list[RenderableType] = [_head(look), _rates(look)]
    parts += [Text(printable(line), style="yellow") for line in (*look.notes, trouble) if line]
    parts += ["", _engines(look.engines), "", _requests(look, room)]
    return Group(*parts)


def _head(look: Look) -> Text:
    head = Text.assemble(
        f"LLM gateway {printable(look.version)} at {look.url}, ",
        (look.status, _COLORS.get(look.status, "")),
        f", up {_age(look.uptime)}",
        overflow="ellipsis",
        no_wrap=True,
    )
    return head.append(f": {printable(look.detail)}") if look.detail else head


def _rates(look: Look) -> Text:
    if look.rates is None:
        return Text("")
    rates = look.rates
    times = [f"{name} {_seconds(value)}" for name, value in _times(look)]
    told = f"{rates.requests:.1f} requests/s ({rates.refused:.1f} refused, {rates.failed:.1f} failed)"
    return Text(f"{told}, {rates.tokens:.0f} tokens/s, first token: {', '.join(times)}", no_wrap=True, overflow="fold")


def _times(look: Look) -> list[tuple[str, float | None]]:
    rates = look.rates
    return [] if rates is None else [("p50", rates.first_token_p50), ("p95", rates.first_token_p95)]


def _engines(engines: list[EngineLook]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _ENGINES:
        table.add_column(column, justify="right" if column in _ENGINES[3:7] else "left", overflow="ellipsis")
    for engine in engines:
        breaker = "" if engine.breaker == "closed" else f"breaker {engine.breaker}"
        table.add_row(
            Text(engine.engine),
            Text(printable(engine.model or "-")),
            Text(engine.status, style=_COLORS.get(engine.status, "")),
            str(engine.running),
            str(engine.waiting),
            "-" if engine.memory is None else size(engine.memory),
            "-" if engine.cached_tokens is None else f"{engine.cached_tokens:.0f}",
            Text(printable(engine.detail or breaker)),
        )
    return table


def _requests(look: Look, room: int) -> RenderableType:
    if not look.requests:
        return Text("no requests", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in REQUESTS:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for request in look.requests[:room]:
        table.add_row(*map(Text, to_cells(REQUESTS, request)))
    hidden = len(look.requests) - room
    return Group(table, Text(f"and {hidden} more", style="dim")) if hidden > 0 else table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _age(seconds: float) -> str:
    """Say how long something lasts, in its two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if count]
    return " ".join(parts[:2]) or "0 s"
