"""`llm-gateway engines`: the engine plugins, which engines use them, and which are broken and why."""

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from gateway.cli.listing import print_json
from gateway.config import Config, ConfigError, EngineSettings
from gateway.engine import PluginError, installed, load


class InstalledPlugin(Struct, frozen=True):
    """An installed plugin: its package, the engines of the configuration that use it, and why it cannot be loaded."""

    name: str
    package: str
    engines: list[str]
    broken: str | None
    for_tests: bool


def show(read: Callable[[], Config], *, as_json: bool) -> int:
    """List the plugins; return 0. Raise `ConfigError` at the end where `read` does: a plugin may be the reason."""
    try:
        engines, trouble = read().engines, None
    except ConfigError as error:
        engines, trouble = {}, error
    found = list(_plugins(engines))
    if as_json:
        print_json(found)
    else:
        for plugin in found:
            print(f"{plugin.name:12} {plugin.package:28} {_state(plugin)}{' (for tests)' * plugin.for_tests}")
    if trouble:
        raise trouble
    return 0


def _plugins(engines: Mapping[str, EngineSettings]) -> Iterator[InstalledPlugin]:
    for name, point in sorted(installed().items()):
        yield InstalledPlugin(
            name=name,
            package=f"{point.dist.name} {point.dist.version}" if point.dist else "unknown",
            engines=[engine for engine, settings in engines.items() if settings.plugin == name],
            broken=_trouble(name),
            for_tests=point.value.startswith("gateway.testing"),
        )


def _trouble(plugin: str) -> str | None:
    try:
        load(plugin)
    except PluginError as error:
        return str(error)
    return None


def _state(plugin: InstalledPlugin) -> str:
    if plugin.broken is not None:
        return f"broken: {plugin.broken}"
    return f"serves as {', '.join(plugin.engines)}" if plugin.engines else "installed"
