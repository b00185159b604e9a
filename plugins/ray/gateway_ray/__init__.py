"""Any other engine on a Ray cluster: replicas of it in Ray Serve, and an engine here that asks them."""

from importlib.util import find_spec

from gateway.engine import Engine, LoadFailed, Plugin
from gateway_ray.settings import Settings, check


def build(settings: Settings) -> Engine:
    """Build the engine; only this imports Ray. Raises `LoadFailed` where Ray is missing or the settings cannot hold."""
    check(settings)
    if find_spec("ray") is None:
        raise LoadFailed(
            "Ray is not installed: `uv sync --extra ray` in a checkout, else `pip install 'llm-gateway[ray]'`"
        )
    from gateway_ray.engine import RayEngine  # noqa: PLC0415 - Ray belongs where the engine runs

    return RayEngine(settings)


# Ray starts threads and processes, and its driver ends the process when it loses its cluster.
plugin = Plugin(Settings, build, isolated=True, needs_network=lambda _: True)
