"""The process of an isolated engine: its command, environment and restart policy."""

from collections.abc import Iterator

import msgspec

from gateway.config import Config, EngineSettings, ModelsSettings, environment
from gateway.engine import load
from gateway.isolation import ProcessSpec, RestartPolicy, scrubbed_environment


def spec_of(name: str, engine: EngineSettings) -> ProcessSpec | None:
    """Return the specification of an engine's process; `None` for an engine that runs in the worker."""
    plugin = load(engine.plugin)
    if not (plugin.isolated if engine.isolated is None else engine.isolated):
        return None
    own = msgspec.convert(engine.settings, plugin.settings)
    network = plugin.needs_network(own) if engine.network is None else engine.network
    return ProcessSpec(
        name=name,
        plugin=engine.plugin,
        # Sets have another order in each process, and equal settings must give equal bytes.
        settings=msgspec.msgpack.encode(own, order="deterministic"),
        environment=scrubbed_environment(environment(), is_offline=not network),
        network=network,
        policy=RestartPolicy(hang=engine.hang_seconds, load=engine.load_seconds),
    )


def at_start(config: Config) -> Iterator[ProcessSpec]:
    """Yield the processes that the first worker will ask for; none where it may find no room for some of them."""
    if config.models != ModelsSettings():
        return
    for name, engine in config.engines.items():
        if engine.load == "start" and (spec := spec_of(name, engine)) is not None:
            yield spec
