"""What to run for an engine that has a process of its own."""

import msgspec

from gateway.config import EngineSettings, environment
from gateway.engine import load
from gateway.isolation import ProcessSpec, RestartPolicy, scrubbed_environment


def spec_of(name: str, origin: EngineSettings) -> ProcessSpec | None:
    """Write the recipe of an engine's process; `None` for one that runs in the worker, as it or its plugin wishes."""
    plugin = load(origin.plugin)
    if not (plugin.isolated if origin.isolated is None else origin.isolated):
        return None
    own = msgspec.convert(origin.settings, plugin.settings)
    return ProcessSpec(
        name=name,
        plugin=origin.plugin,
        # In one order, for a set has another one in each process, and equal recipes must be equal bytes.
        settings=msgspec.msgpack.encode(own, order="deterministic"),
        environment=scrubbed_environment(environment(), is_offline=plugin.is_offline(own)),
        care=RestartPolicy(hang=origin.hang_seconds, load=origin.load_seconds),
    )
