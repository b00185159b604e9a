"""The command line: `serve` (the default), and the commands that the page of this folder lists."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__, config
from gateway.cli import cache, engines, keys
from gateway.cli.bench import flags
from gateway.cli.examples import show_examples
from gateway.store import StoreFileError, hold
from gateway.supervisor.console import console

if TYPE_CHECKING:
    from gateway.cli.client import GatewayClient

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
_BATCH = "have a file of requests answered by a running gateway while no client waits"
_CONFORMANCE = "try whether a server keeps what clients of OpenAI's API rely on"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 failed, 2 wrong usage or configuration, 3 no engine loads."""
    parser = _parser()
    if config.is_completing():
        from gateway.cli.completion import complete  # noqa: PLC0415 - argcomplete is for shells only

        complete(parser)
    options = parser.parse_args(_command_first(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        return int(options.run(options))
    except config.ConfigError as error:
        console.print(f"llm-gateway: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


def _command_first(words: list[str]) -> list[str]:
    """Move the command before the flags, most of which take a value; `serve` if there is no command."""
    if words and words[0] in ("-h", "--help", "--version"):
        return words
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 1 if "=" in words[at] or words[at] in config.SWITCHES else 2
    command = words[at : at + 1] or ["serve"]
    return [*command, *words[:at], *words[at + 1 :]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-gateway",
        usage="%(prog)s [COMMAND] [FLAGS]",
        description="An HTTP gateway in front of language models.",
    )
    parser.add_argument("--version", action="version", version=f"llm-gateway {__version__}")
    commands = parser.add_subparsers(
        title="commands (each has a --help)", metavar="COMMAND", required=True, prog="llm-gateway"
    )
    _add_flags(parser.add_argument_group("flags of serve"))
    show_examples(parser, "")
    for name, what, run in (
        ("serve", "run the service (the default)", _serve),
        ("check", "check the configuration and say what is wrong where", _check),
        ("engines", "list the engine plugins, installed and configured", _engines),
    ):
        _add_flags(command := _add_command(commands, name, what, run))
    command.add_argument("--json", action="store_true", help="as JSON")
    for name, what, run, add_flags in (
        ("chat", "chat with a model of a running gateway", _chat, _add_chat_flags),
        ("models", "list the models of a running gateway", _models, _add_models_flags),
        ("requests", "list what waits and runs in a running gateway, or end it", _requests, _add_requests_flags),
        ("top", "watch a running gateway: its engines, requests and rates", _top, _add_top_flags),
        ("batch", f"{_BATCH}; run again, it goes on", _batch, _add_batch_flags),
        ("bench", "measure a running gateway, or any server that speaks OpenAI's dialect", _bench, flags.add_flags),
        ("conformance", f"{_CONFORMANCE}; exit code 1 where it breaks a must", _conformance, _add_conformance_flags),
    ):
        client = _add_command(commands, name, what, run)
        _add_client_flags(client, name)
        add_flags(client)
    what = "print what a shell needs to complete these commands and flags"
    shell = _add_command(commands, "completion", what, _completion)
    shell.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    keys.add_commands(_add_command(commands, "keys", "make, list and revoke the keys of callers", None))
    cache.add_commands(_add_command(commands, "cache", "list and clear what engines made once and keep", None))
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    what: str,
    run: Callable[[argparse.Namespace], int] | None,
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    added.set_defaults(run=run)
    show_examples(added, name)
    return added


def _add_client_flags(client: argparse.ArgumentParser, name: str) -> None:
    where = "the gateway is (default: where the configuration has it listen)"
    if name in ("bench", "conformance"):
        where = "the server is, or one of its endpoints (default: as for chat)"
    client.add_argument("--url", help=f"where {where}")
    if name != "bench":  # which has it among its own
        client.add_argument("--api-key", metavar="KEY", help="the key to send (or LLM_GATEWAY_API_KEY)")


def _add_models_flags(models: argparse.ArgumentParser) -> None:
    form = models.add_mutually_exclusive_group()
    form.add_argument("--table", action="store_true", help="write as Markdown what each of them can do")
    form.add_argument("--json", action="store_true", help="as JSON")


def _add_requests_flags(requests: argparse.ArgumentParser) -> None:
    requests.add_argument("--json", action="store_true", help="as JSON")
    requests.add_argument("--cancel", metavar="ID", help="end the request of this id")


def _add_top_flags(top: argparse.ArgumentParser) -> None:
    top.add_argument("--json", action="store_true", help="print each look as a line of JSON")
    top.add_argument("--interval", type=_interval, default=2.0, metavar="S", help="seconds between looks (2)")
    top.add_argument(
        "--count", type=int, metavar="N", help="print N looks one below the other (default: 1 where no terminal is)"
    )


def _interval(text: str) -> float:
    seconds = float(text)
    if not _LEAST_INTERVAL <= seconds <= _MOST_INTERVAL:
        raise argparse.ArgumentTypeError(f"expected {_LEAST_INTERVAL:g} to {_MOST_INTERVAL:g} seconds")
    return seconds


def _add_chat_flags(chat: argparse.ArgumentParser) -> None:
    chat.add_argument("--model", help="the model to talk to (default: the gateway's first)")
    chat.add_argument("--system", help="a system message to begin with")
    chat.add_argument("--temperature", type=float, help="0 for the likeliest answer")
    chat.add_argument(
        "--max-new-tokens", type=int, default=_ANSWER_TOKENS, help=f"the longest answer (default {_ANSWER_TOKENS})"
    )
    chat.add_argument("--plain", action="store_true", help="show answers as they come, and not as Markdown")
    chat.add_argument("--history", metavar="FILE", help="keep what is typed, for the next chat (default: nowhere)")


def _add_batch_flags(batch: argparse.ArgumentParser) -> None:
    batch.add_argument("file", metavar="FILE", help="the requests, one a line, in the form of OpenAI's batches")
    batch.add_argument("--output", metavar="FILE", help="where the answers go (default: FILE's name, .output.jsonl)")
    batch.add_argument("--errors", metavar="FILE", help="where the lines go that failed (default: beside the answers)")
    batch.add_argument("--endpoint", metavar="PATH", help="the route for all lines (default: the first line's url)")
    batch.add_argument("--window", default="24h", metavar="TIME", help="how long it may take: 30m, 24h, 7d (24h)")
    batch.add_argument("--again", action="store_true", help="make a new batch, also where the same file had one")


def _add_conformance_flags(conformance: argparse.ArgumentParser) -> None:
    conformance.add_argument("groups", nargs="*", metavar="GROUP", help="the groups of rules (default: all)")
    conformance.add_argument("--model", help="the model (default: the server's first)")
    conformance.add_argument("--json", metavar="FILE", help="write what was found as JSON")
    conformance.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds for an answer (120)")


def _add_flags(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flags that set configuration to `command`."""
    command.add_argument("--config", metavar="FILE", help="a TOML file (or LLM_GATEWAY_CONFIG)")
    for flag, path in config.FLAGS.items():
        if flag in config.SWITCHES:
            command.add_argument(flag, dest=path, action="store_const", const="true", help=_HELP[flag])
        else:
            command.add_argument(flag, dest=path, metavar=flag.strip("-").upper().replace("-", "_"), help=_HELP[flag])


def _layers(options: argparse.Namespace) -> tuple[str | None, dict[str, str | None]]:
    return options.config, {path: getattr(options, path) for path in config.FLAGS.values()}


def _serve(options: argparse.Namespace) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # nothing runs yet
    from gateway.supervisor.supervisor import serve  # noqa: PLC0415 - for this command only

    layers = _layers(options)
    found = config.read(*layers)
    if found.store.file is not None:
        _hold(Path(found.store.file))
    return serve(found, lambda: config.read(*layers))


def _hold(file: Path) -> None:
    """Keep the file of stored answers for this process; raise `ConfigError` where another service has it."""
    try:
        hold(file)
    except StoreFileError as error:
        raise config.ConfigError(f"store.file: {error}") from error


def _check(options: argparse.Namespace) -> int:
    found = config.read(*_layers(options))
    for warning in found.warnings:
        print(f"warning: {warning}")
    engines = ", ".join(f"{name} ({engine.plugin})" for name, engine in found.engines.items())
    print(f"the configuration is right: http://{found.server.host}:{found.server.port}, engines: {engines}")
    return 0


def _engines(options: argparse.Namespace) -> int:
    return engines.show(lambda: config.look(*_layers(options)), as_json=options.json)


def _models(options: argparse.Namespace) -> int:
    from gateway.cli.models import show_models  # noqa: PLC0415 - httpx is for the clients only

    return show_models(options, _client(options))


def _requests(options: argparse.Namespace) -> int:
    from gateway.cli.models import show_requests  # noqa: PLC0415 - httpx is for the clients only

    return show_requests(options, _client(options))


def _top(options: argparse.Namespace) -> int:
    from gateway.cli.top import run  # noqa: PLC0415 - httpx and rich are for the clients only

    return run(options, _client(options))


def _chat(options: argparse.Namespace) -> int:
    from gateway.cli.chat import Conversation  # noqa: PLC0415 - httpx and rich are for the clients only

    asked = {
        "model": options.model,
        "temperature": options.temperature,
        "max_new_tokens": options.max_new_tokens,
    }
    return Conversation(_client(options), options.system, asked, is_plain=options.plain, history=options.history).run()


def _client(options: argparse.Namespace) -> "GatewayClient":
    from gateway.cli.client import GatewayClient  # noqa: PLC0415 - httpx is for the clients only

    return GatewayClient(_url(options), _key(options))


def _completion(options: argparse.Namespace) -> int:
    from gateway.cli.completion import print_completion  # noqa: PLC0415 - argcomplete is for shells only

    return print_completion(options.shell)


def _url(options: argparse.Namespace) -> str:
    return str(options.url or config.service_url())


def _key(options: argparse.Namespace) -> str | None:
    key: str | None = options.api_key or config.api_key()
    if key and not (key.isascii() and key.isprintable()):  # the libraries would show it in their error
        raise config.ConfigError("the API key has characters that no header can carry")
    return key


def _conformance(options: argparse.Namespace) -> int:
    from gateway.cli.conformance.command import run  # noqa: PLC0415 - httpx and rich are for the clients only

    options.api_key = _key(options)
    return run(options, _url(options))


def _batch(options: argparse.Namespace) -> int:
    from gateway.cli.batch import run  # noqa: PLC0415 - httpx and rich are for the clients only

    options.api_key = _key(options)
    return run(options, _url(options))


def _bench(options: argparse.Namespace) -> int:
    from gateway.cli.bench.command import run  # noqa: PLC0415 - aiohttp and rich are for the clients only

    options.api_key = _key(options)
    return run(options, _url(options))
