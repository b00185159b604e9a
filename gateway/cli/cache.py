"""`llm-gateway cache`: list and clear the cache folders of engines, whether the service runs or not."""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway import config
from gateway.cli.examples import show_examples
from gateway.cli.listing import print_json, print_table, size
from gateway.config import ConfigError
from gateway.engine import CacheEntry, DiskCache, load

_COLUMNS = ("name", "size", "last used", "")


def add_commands(command: argparse.ArgumentParser) -> None:
    """Add the commands of `cache`."""
    actions = command.add_subparsers(title="commands (each has a --help)", metavar="COMMAND", required=True)
    listing = actions.add_parser("list", help="list converted models, built kernels and what else engines keep")
    clear = actions.add_parser("clear", help="remove what no running service uses")
    for name, action, run in (("list", listing, _list), ("clear", clear, _clear)):
        show_examples(action, f"cache {name}")
        action.add_argument("--folder", help="the cache folder (default: those of the configured engines)")
        action.add_argument("--config", metavar="FILE", help="a TOML file (or LLM_GATEWAY_CONFIG)")
        action.set_defaults(run=run)
    listing.add_argument("--json", action="store_true", help="as JSON")
    clear.add_argument("names", metavar="NAME", nargs="*", help="what to remove (default: all)")


def _list(options: argparse.Namespace) -> int:
    if options.json:
        print_json([_as_json(cache) for cache in _caches(options)])
        return 0
    for cache in _caches(options):
        entries = cache.entries()
        print(f"{cache.folder}: {size(sum(entry.size for entry in entries))}")
        if entries:
            print_table(_COLUMNS, map(_row, entries))
    return 0


def _as_json(cache: DiskCache) -> dict[str, object]:
    entries = [
        {
            "name": entry.path.name,
            "size": entry.size,
            "used": datetime.fromtimestamp(entry.used_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "in_use": entry.in_use,
        }
        for entry in cache.entries()
    ]
    return {"folder": str(cache.folder), "entries": entries}


def _clear(options: argparse.Namespace) -> int:
    """Remove the named entries, or all; say which stay, and why."""
    caches = list(_caches(options))
    there = {entry.path.name for cache in caches for entry in cache.entries()}
    if unknown := sorted(set(options.names) - there):
        raise ConfigError(f"the cache has no {unknown[0]!r}; `{config.command()} cache list` lists what it has")
    for cache in caches:
        before = cache.entries()
        named = [entry for entry in before if entry.path.name in options.names]
        stays = [entry for entry in named if not cache.remove(entry.path)] if options.names else cache.clear()
        gone = sum(entry.size for entry in before) - sum(entry.size for entry in cache.entries())
        print(f"{cache.folder}: removed {size(gone)}")
        for entry in stays:
            print(f"{entry.path.name} stays: {'a running service uses it' if entry.in_use else 'it cannot be removed'}")
    return 0


def _caches(options: argparse.Namespace) -> Iterator[DiskCache]:
    """Yield the cache of each folder that a configured engine has, or of the one that is named."""
    if options.folder:
        yield DiskCache(Path(options.folder).expanduser())
        return
    seen = set[Path]()
    for engine in config.look(options.config).engines.values():
        plugin = load(engine.plugin)
        if plugin.cache_folder is not None:
            folder = plugin.cache_folder(msgspec.convert(engine.settings, plugin.settings))
            if folder not in seen:
                yield DiskCache(folder)
            seen.add(folder)


def _row(entry: CacheEntry) -> tuple[str, ...]:
    used = datetime.fromtimestamp(entry.used_at, UTC).strftime("%Y-%m-%d %H:%M")
    return entry.path.name, size(entry.size), used, "in use" if entry.in_use else ""
