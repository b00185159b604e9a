"""The flags of the commands, and what their help says."""

import argparse
from collections.abc import Callable

from gateway import config
from gateway.cli.examples import show_examples

_HELP = {
    "--host": "the address to listen on (default 127.0.0.1)",
    "--port": "the port to listen on (default 8000)",
    "--engine": "the default engine's plugin (default hf)",
    "--model": "the default engine's model: a hub id, a folder or a GGUF file",
    "--device": "cpu, cuda or auto",
    "--log-level": "DEBUG, INFO, WARNING or ERROR (default INFO)",
    "--insecure-no-auth": "serve whoever comes, where there is no key, on any address",
}
_ANSWER_TOKENS = 512
# Scrapes within a second share one rendering.
_LEAST_INTERVAL, _MOST_INTERVAL = 1.0, 3600.0


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    what: str,
    run: Callable[[argparse.Namespace], int] | None,
) -> argparse.ArgumentParser:
    """Add a command, and what runs it; return its parser."""
    added: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    added.set_defaults(run=run)
    show_examples(added, name)
    return added


def add_client_flags(client: argparse.ArgumentParser, name: str) -> None:
    """Add the flags that say which server a command asks, and as whom."""
    where = "the gateway is (default: where the configuration has it listen)"
    if name in ("bench", "conformance"):
        where = "the server is, or one of its endpoints (default: as for chat)"
    client.add_argument("--url", help=f"where {where}")
    client.add_argument("--ca", metavar="FILE", help="the authorities to trust, or the server's own certificate (PEM)")
    if name != "bench":  # which has it among its own
        client.add_argument("--api-key", metavar="KEY", help="the key to send (or LLM_GATEWAY_API_KEY)")


def add_models_flags(models: argparse.ArgumentParser) -> None:
    """Add the flags of `models`."""
    form = models.add_mutually_exclusive_group()
    form.add_argument("--table", action="store_true", help="write as Markdown what each of them can do")
    form.add_argument("--json", action="store_true", help="as JSON")


def add_requests_flags(requests: argparse.ArgumentParser) -> None:
    """Add the flags of `requests`."""
    requests.add_argument("--json", action="store_true", help="as JSON")
    requests.add_argument("--cancel", metavar="ID", help="end the request of this id")


def add_top_flags(top: argparse.ArgumentParser) -> None:
    """Add the flags of `top`."""
    top.add_argument("--json", action="store_true", help="print each look as a line of JSON")
    top.add_argument("--interval", type=_interval, default=2.0, metavar="S", help="seconds between looks (2)")
    top.add_argument(
        "--count", type=_count, metavar="N", help="print N looks one below the other (default: 1 where no terminal is)"
    )


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return count


def _interval(text: str) -> float:
    seconds = float(text)
    if not _LEAST_INTERVAL <= seconds <= _MOST_INTERVAL:
        raise argparse.ArgumentTypeError(f"expected {_LEAST_INTERVAL:g} to {_MOST_INTERVAL:g} seconds")
    return seconds


def add_chat_flags(chat: argparse.ArgumentParser) -> None:
    """Add the flags of `chat`."""
    chat.add_argument("--model", help="the model to talk to (default: the gateway's first)")
    chat.add_argument("--system", help="a system message to begin with")
    chat.add_argument("--temperature", type=float, help="0 for the likeliest answer")
    chat.add_argument(
        "--max-new-tokens", type=int, default=_ANSWER_TOKENS, help=f"the longest answer (default {_ANSWER_TOKENS})"
    )
    chat.add_argument("--plain", action="store_true", help="show answers as they come, and not as Markdown")
    chat.add_argument("--history", metavar="FILE", help="keep what is typed, for the next chat (default: nowhere)")


def add_batch_flags(batch: argparse.ArgumentParser) -> None:
    """Add the flags of `batch`."""
    batch.add_argument("file", metavar="FILE", help="the requests, one a line, in the form of OpenAI's batches")
    batch.add_argument("--output", metavar="FILE", help="where the answers go (default: FILE's name, .output.jsonl)")
    batch.add_argument("--errors", metavar="FILE", help="where the lines go that failed (default: beside the answers)")
    batch.add_argument("--endpoint", metavar="PATH", help="the route for all lines (default: the first line's url)")
    batch.add_argument("--window", default="24h", metavar="TIME", help="how long it may take: 30m, 24h, 7d (24h)")
    batch.add_argument("--again", action="store_true", help="make a new batch, also where the same file had one")


def add_conformance_flags(conformance: argparse.ArgumentParser) -> None:
    """Add the flags of `conformance`."""
    conformance.add_argument("groups", nargs="*", metavar="GROUP", help="the groups of rules (default: all)")
    conformance.add_argument("--model", help="the model (default: the server's first)")
    conformance.add_argument("--json", metavar="FILE", help="write what was found as JSON")
    conformance.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds for an answer (120)")


def add_flags(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flags that set configuration to `command`."""
    command.add_argument("--config", metavar="FILE", help="a TOML file (or LLM_GATEWAY_CONFIG)")
    for flag, path in config.FLAGS.items():
        if flag in config.SWITCHES:
            command.add_argument(flag, dest=path, action="store_const", const="true", help=_HELP[flag])
        else:
            command.add_argument(flag, dest=path, metavar=flag.strip("-").upper().replace("-", "_"), help=_HELP[flag])
