"""The command line: `serve` (the default), and the commands that the page of this folder lists."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import __version__, config
from gateway.cli import cache, keys
from gateway.cli.bench import flags
from gateway.cli.examples import show_examples
from gateway.engine import PluginError, installed, load
from gateway.store import StoreFileError, hold
from gateway.supervisor.console import console

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 failed, 2 wrong usage or configuration, 3 no engine loads."""
    options = _parser().parse_args(_command_first(list(sys.argv[1:] if arguments is None else arguments)))
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
        _add_flags(_add_command(commands, name, what, run))
    for name, what, run in (
        ("models", "list the models of a running gateway", _models),
        ("chat", "chat with a model of a running gateway", _chat),
    ):
        client = _add_command(commands, name, what, run)
        client.add_argument("--url", help="where the gateway is (default: where the configuration has it listen)")
        client.add_argument("--api-key", metavar="KEY", help="the key to send (or LLM_GATEWAY_API_KEY)")
        if name == "models":
            client.add_argument("--table", action="store_true", help="write as Markdown what each of them can do")
    _add_chat_flags(client)
    what = "measure a running gateway, or any server that speaks OpenAI's dialect"
    bench = _add_command(commands, "bench", what, _bench)
    bench.add_argument("--url", help="the server, or one of its endpoints (default: as for chat)")
    flags.add_flags(bench)
    what = "have a file of requests answered by a running gateway while no client waits; run again, it goes on"
    batch = _add_command(commands, "batch", what, _batch)
    _add_batch_flags(batch)
    what = "try whether a server keeps what clients of OpenAI's API rely on; exit code 1 where it breaks a must"
    conformance = _add_command(commands, "conformance", what, _conformance)
    _add_conformance_flags(conformance)
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


def _add_chat_flags(chat: argparse.ArgumentParser) -> None:
    chat.add_argument("--model", help="the model to talk to (default: the gateway's first)")
    chat.add_argument("--system", help="a system message to begin with")
    chat.add_argument("--temperature", type=float, help="0 for the likeliest answer")
    chat.add_argument(
        "--max-new-tokens", type=int, default=_ANSWER_TOKENS, help=f"the longest answer (default {_ANSWER_TOKENS})"
    )


def _add_batch_flags(batch: argparse.ArgumentParser) -> None:
    batch.add_argument("file", metavar="FILE", help="the requests, one a line, in the form of OpenAI's batches")
    batch.add_argument("--output", metavar="FILE", help="where the answers go (default: FILE's name, .output.jsonl)")
    batch.add_argument("--errors", metavar="FILE", help="where the lines go that failed (default: beside the answers)")
    batch.add_argument("--endpoint", metavar="PATH", help="the route for all lines (default: the first line's url)")
    batch.add_argument("--window", default="24h", metavar="TIME", help="how long it may take: 30m, 24h, 7d (24h)")
    batch.add_argument("--again", action="store_true", help="make a new batch, also where the same file had one")
    batch.add_argument("--url", help="where the gateway is (default: as for chat)")
    batch.add_argument("--api-key", metavar="KEY", help="the key to send (or LLM_GATEWAY_API_KEY)")


def _add_conformance_flags(conformance: argparse.ArgumentParser) -> None:
    conformance.add_argument("groups", nargs="*", metavar="GROUP", help="the groups of rules (default: all)")
    conformance.add_argument("--url", help="the server (default: as for chat)")
    conformance.add_argument("--api-key", metavar="KEY", help="the key to send (or LLM_GATEWAY_API_KEY)")
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
    """List the plugins even if the configuration is wrong: a plugin may be the reason."""
    try:
        engines, trouble = config.look(*_layers(options)).engines, None
    except config.ConfigError as error:
        engines, trouble = {}, error
    for name, point in sorted(installed().items()):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        used = ", ".join(engine for engine, settings in engines.items() if settings.plugin == name)
        print(f"{name:12} {origin:28} {_state(name, used)}{' (for tests)' * point.value.startswith('gateway.testing')}")
    if trouble:
        raise trouble
    return 0


def _state(plugin: str, used: str) -> str:
    try:
        load(plugin)
    except PluginError as error:
        return f"broken: {error}"
    return f"serves as {used}" if used else "installed"


def _models(options: argparse.Namespace) -> int:
    from gateway.cli.chat import show_models  # noqa: PLC0415 - httpx and rich are for the clients only

    return show_models(_url(options), _key(options), as_table=options.table)


def _chat(options: argparse.Namespace) -> int:
    from gateway.cli.chat import Conversation  # noqa: PLC0415 - httpx and rich are for the clients only

    asked = {
        "model": options.model,
        "temperature": options.temperature,
        "max_new_tokens": options.max_new_tokens,
    }
    return Conversation(_url(options), _key(options), options.system, asked).run()


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
