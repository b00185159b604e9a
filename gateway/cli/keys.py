"""`llm-gateway keys`: create, list and revoke API keys, whether the service runs or not.

Only a new key is printed on standard output, for a shell to read; messages go to standard error.
"""

import argparse
import contextlib
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from gateway import config
from gateway.auth import Key, KeyFile, KeyFileError, Scope
from gateway.cli.examples import show_examples
from gateway.cli.listing import print_json, print_table
from gateway.config import ConfigError
from gateway.limits import Quota

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_QUOTA = {
    "requests_per_minute": "the most requests in a minute",
    "tokens_per_minute": "the most tokens in a minute, of prompts and answers together",
    "tokens_per_day": "the most tokens in a day",
    "concurrent": "the most requests at once",
}
_COLUMNS = ("id", "name", "scopes", "models", "limits", "valid")


def add_commands(command: argparse.ArgumentParser) -> None:
    """Add the commands of `keys`."""
    actions = command.add_subparsers(title="commands (each has a --help)", metavar="COMMAND", required=True)
    create = actions.add_parser("create", help="make a key, and print it: this once, for only its hash is kept")
    listing = actions.add_parser("list", help="list the keys, the revoked and expired too")
    revoke = actions.add_parser("revoke", help="end a key, for ever")
    for name, action, act in (("create", create, _create), ("list", listing, _list), ("revoke", revoke, _revoke)):
        show_examples(action, f"keys {name}")
        action.add_argument("--file", help="where the keys are kept (default: the setting auth.file)")
        action.add_argument("--config", metavar="FILE", help="a TOML file (or LLM_GATEWAY_CONFIG)")
        action.set_defaults(run=_run, act=act)
    listing.add_argument("--json", action="store_true", help="as JSON")
    revoke.add_argument("key", metavar="NAME|ID", help="which one")
    create.add_argument("name", metavar="NAME", help="whose key it is: a name that no other key has")
    create.add_argument(
        "--scope", action="append", choices=[scope.value for scope in Scope], help="what it is for (infer); repeatable"
    )
    create.add_argument(
        "--model", action="append", help="a model, an engine or a route that it may use (all); repeatable"
    )
    create.add_argument("--expires", type=_seconds, metavar="TIME", help="how long it is valid, as 30d or 12h (always)")
    create.add_argument("--priority", type=int, default=0, metavar="N", help="the highest its requests may have (0)")
    for name, what in _QUOTA.items():
        create.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=what)


def _run(options: argparse.Namespace) -> int:
    try:
        options.act(options, KeyFile(_path(options)))
    except (KeyFileError, OSError) as error:
        raise ConfigError(str(error)) from error
    return 0


def _path(options: argparse.Namespace) -> Path:
    path = options.file or config.look(options.config).auth.file
    if path is None:
        raise ConfigError("where are the keys? Say --file FILE, or set auth.file (LLM_GATEWAY__AUTH__FILE)")
    return Path(path)


def _create(options: argparse.Namespace, file: KeyFile) -> None:
    key, text = file.create(
        options.name,
        scopes=frozenset(map(Scope, options.scope or [Scope.INFER])),
        models=frozenset(options.model) if options.model else None,
        quota=Quota(**{name: getattr(options, name) for name in _QUOTA}),
        priority=options.priority,
        seconds=options.expires,
    )
    print(text, flush=True)
    _say(f"made the key {key.name!r} ({key.id}) in {file.path}; it is shown this once")
    _say(f"a service whose auth.file is {file.path} takes it from now on; no restart is needed")
    with contextlib.suppress(ConfigError):  # with --file, keys are made without a configuration too
        for what in config.misspelt_models(config.look(options.config), options.model or ()):
            _say(f"warning: {what}")


def _list(options: argparse.Namespace, file: KeyFile) -> None:
    if not file.path.exists():
        raise KeyFileError(f"{file.path}: there is no such file; `{config.command()} keys create NAME` makes it")
    keys = file.read()
    if options.json:
        print_json([_as_json(key) for key in keys])
    else:
        print_table(_COLUMNS, map(_row, keys))


def _revoke(options: argparse.Namespace, file: KeyFile) -> None:
    key = file.revoke(options.key)
    _say(f"revoked the key {key.name!r} ({key.id}): its next request is refused; what runs goes on")


def _row(key: Key) -> tuple[str, ...]:
    limits = [f"{name}={limit}" for name in _QUOTA if (limit := getattr(key.quota, name)) is not None]
    return (
        key.id,
        key.name,
        ",".join(sorted(key.scopes)),
        "all" if key.models is None else ",".join(sorted(key.models)),
        ",".join(limits) or "default",
        _validity(key),
    )


def _validity(key: Key) -> str:
    if key.revoked is not None:
        return f"revoked {_shown(key.revoked)}"
    if key.expires is None:
        return "always"
    return f"{'until' if key.expires > time.time() else 'expired'} {_shown(key.expires)}"


def _as_json(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "quota": key.quota,
        "priority": key.priority,
        "created": _shown(key.created),
        "expires": None if key.expires is None else _shown(key.expires),
        "revoked": None if key.revoked is None else _shown(key.revoked),
    }


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    """Convert `30d`, `12h` or `90m` to seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected a number and one of {', '.join(_UNITS)}")
    return int(found[1]) * _UNITS[found[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _say(what: str) -> None:
    print(f"llm-gateway: {what}", file=sys.stderr)
