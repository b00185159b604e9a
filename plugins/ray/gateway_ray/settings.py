"""The settings of an engine table with `plugin = "ray"`."""

from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert

from gateway.engine import LoadFailed, PluginError, load

_Count = Annotated[int, Meta(ge=1, le=10_000)]
_Amount = Annotated[float, Meta(ge=0)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class InnerEngine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The engine in each replica: any other plugin, with settings of its own."""

    plugin: str
    settings: dict[str, Any] = {}


class Autoscale(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Between `min` and `max` replicas, so that each has `ongoing` requests.

    One is added once there were too few for `up_seconds`, and one ends after `down_seconds` of too many.
    """

    min: _Count
    max: _Count
    ongoing: Annotated[float, Meta(gt=0)] = 8.0
    up_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    down_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 600.0


class Resources(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a replica takes of its node; `custom` are resources that the cluster's nodes declare."""

    cpus: _Amount = 1.0
    gpus: _Amount = 0.0
    memory_gib: _Amount = 0.0
    custom: dict[str, _Amount] = {}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which engine, on which cluster, in how many replicas of which size."""

    engine: InnerEngine
    replicas: _Count | Autoscale = 1
    resources: Resources = Resources()
    labels: dict[str, str] = {}
    per_node: Annotated[int, Meta(ge=0, le=100)] = 0
    ongoing: _Count = 64
    surge: Annotated[int, Meta(ge=0, le=100)] = 0
    drain_seconds: _Seconds = 30.0
    hang_seconds: _Seconds = 60.0
    address: str = ""
    app: str = ""
    keep: bool = True
    connect_seconds: _Seconds = 30.0
    object_store_mib: Annotated[int, Meta(ge=80)] = 200


def check(settings: Settings) -> None:
    """Raise `LoadFailed` for settings that cannot hold, before anything is deployed with them."""
    if settings.address.startswith("ray://"):
        raise LoadFailed(
            "settings.address: Ray's client at ray:// cannot stream; let this machine join the cluster with "
            '`ray start --address=HEAD:6379 --num-cpus=0`, and set address = "auto"'
        )
    if settings.address and not settings.app:
        raise LoadFailed("settings.app: name the application, which others on this cluster may not be called")
    scaled = settings.replicas
    if isinstance(scaled, Autoscale) and scaled.min > scaled.max:
        raise LoadFailed(f"settings.replicas: min is {scaled.min}, which is more than max, {scaled.max}")
    if settings.engine.plugin == "ray":
        raise LoadFailed("settings.engine.plugin: a replica hosts the engine itself, and no replicas of it")
    try:
        convert(settings.engine.settings, load(settings.engine.plugin).settings)
    except PluginError as error:
        raise LoadFailed(f"settings.engine.plugin: {error}") from error
    except ValidationError as error:
        raise LoadFailed(f"settings.engine.settings: {error}") from error
