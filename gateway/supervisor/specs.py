"""The process of an isolated engine: its command, environment and restart policy."""

import msgspec

from gateway.config import EngineSettings, environment
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
