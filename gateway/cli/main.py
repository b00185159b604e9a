"""The command line: `serve` (the default), and the commands that the page of this folder lists."""

import argparse
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__, config
from gateway.cli import arguments, cache, engines, keys
from gateway.cli.bench import flags
from gateway.cli.examples import show_examples
from gateway.store import StoreFileError, hold
from gateway.supervisor.console import console

if TYPE_CHECKING:
    from gateway.cli.client import GatewayClient

_BATCH = "have a file of requests answered by a running gateway while no client waits"
_COMMANDS = frozenset(
    {
        *("serve", "check", "engines", "health", "chat", "models", "requests", "top", "batch", "bench", "conformance"),
        *("completion", "keys", "cache"),
    }
)
# Flags of clients that take no value, or need none: a command may follow.
_BARE = frozenset({"--json", "--table", "--plain", "--again"})
_CONFORMANCE = "try whether a server keeps what clients of OpenAI's API rely on; exit code 1 where it breaks a must"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 failed, 2 wrong usage or configuration, 3 no engine loads."""
    parser = _parser()
    if config.is_completing():
        from gateway.cli.completion import complete  # noqa: PLC0415 - argcomplete is for shells only

        complete(parser)
    options = parser.parse_args(_command_first(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:
        # What reads the output has had enough, as `head` has; the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except config.ConfigError as error:
        console.print(f"llm-gateway: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def _command_first(words: list[str]) -> list[str]:
    """Move the command before the flags, most of which take a value; `serve` if there is no command."""
    if words and words[0] in ("-h", "--help", "--version"):
        return words
    at = 0
    while at < len(words) and words[at].startswith("-"):
        is_bare = words[at] in _BARE and words[at + 1 : at + 2] and words[at + 1] in _COMMANDS
        at += 1 if "=" in words[at] or words[at] in config.SWITCHES or is_bare else 2
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
    arguments.add_flags(parser.add_argument_group("flags of serve"))
    show_examples(parser, "")
    for name, what, run in (
        ("serve", "run the service (the default)", _serve),
        ("check", "check the configuration and say what is wrong where", _check),
        ("health", "ask the gateway that is configured here whether it is ready; exit code 1 where not", _health),
        ("engines", "list the engine plugins, installed and configured", _engines),
    ):
        arguments.add_flags(command := arguments.add_command(commands, name, what, run))
    command.add_argument("--json", action="store_true", help="as JSON")
    for name, what, run, add_flags in (
        ("chat", "chat with a model of a running gateway", _chat, arguments.add_chat_flags),
        ("models", "list the models of a running gateway", _models, arguments.add_models_flags),
        (
            "requests",
            "list what waits and runs in a running gateway, or end it",
            _requests,
            arguments.add_requests_flags,
        ),
        ("top", "watch a running gateway: its engines, requests and rates", _top, arguments.add_top_flags),
        ("batch", f"{_BATCH}; run again, it goes on", _batch, arguments.add_batch_flags),
        ("bench", "measure a running gateway, or any server that speaks OpenAI's dialect", _bench, flags.add_flags),
        (
            "conformance",
            f"{_CONFORMANCE}; exit code 1 where it breaks a must",
            _conformance,
            arguments.add_conformance_flags,
        ),
    ):
        client = arguments.add_command(commands, name, what, run)
        arguments.add_client_flags(client, name)
        add_flags(client)
    what = "print what a shell needs to complete these commands and flags"
    shell = arguments.add_command(commands, "completion", what, _completion)
    shell.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    keys.add_commands(arguments.add_command(commands, "keys", "make, list and revoke the keys of callers", None))
    cache.add_commands(arguments.add_command(commands, "cache", "list and clear what engines made once and keep", None))
    return parser


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
    print(f"the configuration is right: {found.server.listening}, engines: {engines}")
    return 0


def _health(options: argparse.Namespace) -> int:
    from gateway.cli.health import show_health  # noqa: PLC0415 - for this command only

    return show_health(config.look(*_layers(options)).server.url)


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

    return GatewayClient(_url(options), _key(options), _trust(options))


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


def _trust(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return what decides which servers to trust; `None` where the system does. Raise `ConfigError`."""
    if options.ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=options.ca)
    except OSError as error:
        raise config.ConfigError(f"--ca {options.ca}: {error.strerror or error}") from error


def _conformance(options: argparse.Namespace) -> int:
    from gateway.cli.conformance.command import run  # noqa: PLC0415 - httpx and rich are for the clients only

    options.api_key, options.trust = _key(options), _trust(options)
    return run(options, _url(options))


def _batch(options: argparse.Namespace) -> int:
    from gateway.cli.batch import run  # noqa: PLC0415 - httpx and rich are for the clients only

    options.api_key, options.trust = _key(options), _trust(options)
    return run(options, _url(options))


def _bench(options: argparse.Namespace) -> int:
    from gateway.cli.bench.command import run  # noqa: PLC0415 - aiohttp and rich are for the clients only

    options.api_key, options.trust = _key(options), _trust(options)
    return run(options, _url(options))
