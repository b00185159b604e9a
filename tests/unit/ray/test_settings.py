"""Settings that cannot hold fail the load, by their name, before anything is started."""

import msgspec
import pytest

from gateway.engine import LoadFailed, load

ECHO = {"plugin": "echo"}


def build(**told):
    plugin = load("ray")
    return plugin.build(msgspec.convert({"engine": ECHO} | told, plugin.settings))


def test_replicas_are_a_number_or_bounds():
    kind = load("ray").settings
    assert msgspec.convert({"engine": ECHO, "replicas": 3}, kind).replicas == 3
    assert msgspec.convert({"engine": ECHO, "replicas": {"min": 1, "max": 4}}, kind).replicas.max == 4
    with pytest.raises(msgspec.ValidationError, match=r"\$.replicas"):
        msgspec.convert({"engine": ECHO, "replicas": 0}, kind)


def test_it_is_isolated_and_has_the_network():
    plugin = load("ray")
    assert plugin.isolated
    assert plugin.needs_network(msgspec.convert({"engine": ECHO}, plugin.settings))


def test_settings_survive_the_way_to_the_engines_process():
    kind = load("ray").settings
    told = msgspec.convert({"engine": ECHO, "replicas": {"min": 1, "max": 2}, "resources": {"custom": {"a": 1}}}, kind)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=kind) == told


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"address": "ray://head:10001", "app": "a"}, "settings.address: .* cannot stream"),
        ({"address": "auto"}, "settings.app: name the application"),
        ({"replicas": {"min": 3, "max": 2}}, "settings.replicas: min is 3"),
        ({"engine": {"plugin": "nothing"}}, "settings.engine.plugin: there is no engine plugin 'nothing'"),
        ({"engine": {"plugin": "ray"}}, "settings.engine.plugin: a replica hosts"),
        ({"engine": {"plugin": "echo", "settings": {"dely": 1}}}, "settings.engine.settings: .*dely"),
    ],
)
def test_what_cannot_hold_is_refused_by_its_name(told, reason):
    with pytest.raises(LoadFailed, match=reason):
        build(**told)


def test_without_ray_the_load_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("gateway_ray.find_spec", lambda name: None)
    with pytest.raises(LoadFailed, match="uv sync --extra ray"):
        build()
