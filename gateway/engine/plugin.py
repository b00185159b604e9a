"""Plugins: found by entry point, imported only when a configuration names them."""

import dataclasses
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeVar

from msgspec import Struct

from gateway.engine.base import Engine

GROUP = "llm_gateway.engines"

S = TypeVar("S", bound=Struct)


class PluginError(Exception):
    """A plugin cannot be used; the message names it."""


@dataclasses.dataclass(frozen=True)
class Plugin(Generic[S]):
    """An engine as a value: the struct that its configuration table becomes, and how to build it.

    The module that the entry point names imports only msgspec and `gateway.engine`; `build` imports the rest. An engine
    that computes much, or may crash, is `isolated`: it runs in a process of its own unless the configuration says
    otherwise. That process can open no connection to the network unless `needs_network` says that it must, as to
    download a model, or the configuration does.
    `cache_folder` names the folder of its `DiskCache`, where it has one, for `llm-gateway cache`. `estimate` tells the
    bytes of memory that a load would take, from settings and files alone; `None` where that is not known.
    """

    settings: type[S]
    build: Callable[[S], Engine]
    isolated: bool = False
    needs_network: Callable[[S], bool] = lambda _: False
    cache_folder: Callable[[S], Path] | None = None
    estimate: Callable[[S], int | None] = lambda _: None


def installed() -> dict[str, EntryPoint]:
    """Find the installed plugins by name, importing none of them."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load(name: str) -> Plugin[Struct]:
    """Import the plugin `name`; raise `PluginError` when there is none or it is not a plugin."""
    points = installed()
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise PluginError(f"there is no engine plugin {name!r}; installed: {known}")
    try:
        plugin = points[name].load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything while it is imported, and exit too
        raise PluginError(f"the engine plugin {name!r} cannot be imported: {error}") from error
    if not isinstance(plugin, Plugin):
        raise PluginError(f"the engine plugin {name!r} is a {type(plugin).__name__}, not a gateway.engine.Plugin")
    return plugin
