"""The command line: `serve` (the default), `chat`, `engines`, `models` and `check`."""

import argparse
import sys
from collections.abc import Callable, Sequence

from gateway import __version__, config
from gateway.engine import installed

URL = "http://127.0.0.1:8000"

# flag -> path in the configuration
_FLAGS = {
    "--host": ("server.host", "the address to listen on (default 127.0.0.1)"),
    "--port": ("server.port", "the port to listen on (default 8000)"),
    "--engine": (config.PLAIN["ENGINE"], "the default engine's plugin (default hf)"),
    "--model": (config.PLAIN["MODEL_NAME"], "the default engine's model: a hub id, a folder or a GGUF file"),
    "--device": (config.PLAIN["DEVICE"], "cpu, cuda or auto"),
    "--log-level": ("telemetry.log_level", "DEBUG, INFO, WARNING or ERROR (default INFO)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 failed, 2 wrong usage or configuration, 3 no engine loads."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "serve")
    options = _parser().parse_args(words)
    try:
        return int(options.run(options))
    except config.ConfigError as error:
        print(f"llm-gateway: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llm-gateway", description="An HTTP gateway in front of language models.")
    parser.add_argument("--version", action="version", version=f"llm-gateway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _configured(commands.add_parser("serve", help="run the service (the default)"), _serve)
    _configured(commands.add_parser("check", help="check the configuration and say what is wrong where"), _check)
    _configured(commands.add_parser("engines", help="list the engine plugins, installed and configured"), _engines)
    models = commands.add_parser("models", help="list the models of a running gateway")
    chat = commands.add_parser("chat", help="chat with a model of a running gateway")
    for command, run in ((models, _models), (chat, _chat)):
        command.add_argument("--url", default=URL, help=f"where the gateway is (default {URL})")
        command.set_defaults(run=run)
    chat.add_argument("--model", help="the model to talk to (default: the gateway's first)")
    chat.add_argument("--system", help="a system message to begin with")
    chat.add_argument("--temperature", type=float, help="0 for the likeliest answer")
    return parser


def _configured(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Give `command` the flags that set configuration."""
    command.set_defaults(run=run)
    command.add_argument("--config", metavar="FILE", help="a TOML file (or LLM_GATEWAY_CONFIG)")
    for flag, (path, text) in _FLAGS.items():
        command.add_argument(flag, dest=path, metavar=flag.strip("-").upper().replace("-", "_"), help=text)


def _read(options: argparse.Namespace) -> config.Config:
    return config.read(options.config, {path: getattr(options, path) for path, _ in _FLAGS.values()})


def _serve(options: argparse.Namespace) -> int:
    from gateway.serving import serve  # noqa: PLC0415 - granian is for this command only

    return serve(_read(options))


def _check(options: argparse.Namespace) -> int:
    found = _read(options)
    for warning in found.warnings:
        print(f"warning: {warning}")
    engines = ", ".join(f"{name} ({engine.plugin})" for name, engine in found.engines.items())
    print(f"the configuration is right: http://{found.server.host}:{found.server.port}, engines: {engines}")
    return 0


def _engines(options: argparse.Namespace) -> int:
    used = {engine.plugin: name for name, engine in _read(options).engines.items()}
    for name, point in sorted(installed().items()):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        print(f"{name:12} {origin:28} {'serves as ' + used[name] if name in used else 'installed'}")
    return 0


def _models(options: argparse.Namespace) -> int:
    from gateway.chat import show_models  # noqa: PLC0415 - httpx and rich are for the clients only

    return show_models(options.url)


def _chat(options: argparse.Namespace) -> int:
    from gateway.chat import Conversation  # noqa: PLC0415 - httpx and rich are for the clients only

    return Conversation(options.url, options.model, options.system, options.temperature).run()
