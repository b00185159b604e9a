"""A plugin is found by name and imported only then; what is wrong with one is said with its name."""

import sys

import pytest

from gateway.engine import Engine, Plugin, PluginError, installed, load
from gateway_echo import Settings


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Write a distribution `llm-gateway-NAME` whose module `gateway_NAME` holds `source`, and put it on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, source, *, target=None):
        metadata = tmp_path / f"llm_gateway_{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llm-gateway-{name}\nVersion: 1.0\n")
        point = target or f"gateway_{name}:plugin"
        (metadata / "entry_points.txt").write_text(f"[llm_gateway.engines]\n{name} = {point}\n")
        (tmp_path / f"gateway_{name}.py").write_text(source)

    yield write
    for written in tmp_path.glob("gateway_*.py"):
        sys.modules.pop(written.stem, None)


WORKING = """
from msgspec import Struct
from gateway.engine import Engine, Plugin

class Settings(Struct):
    pass

class Silent(Engine):
    def models(self):
        return ()

    def generate(self, request):
        raise NotImplementedError

plugin = Plugin(Settings, lambda settings: Silent())
"""


def test_an_installed_plugin_is_loaded_by_its_name(distribution):
    distribution("silent", WORKING)
    plugin = load("silent")
    assert isinstance(plugin, Plugin)
    assert isinstance(plugin.build(plugin.settings()), Engine)


def test_finding_plugins_imports_none_of_them(distribution):
    distribution("trap", "raise SystemExit('imported')")
    assert "trap" in installed()
    assert "gateway_trap" not in sys.modules


def test_the_shipped_plugins_are_installed():
    assert {"echo", "hf", "scripted"} <= set(installed())


def test_the_echo_plugin_builds_an_engine():
    plugin = load("echo")
    assert plugin.settings is Settings
    assert [card.name for card in plugin.build(Settings(model="a/b")).models()] == ["b"]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(PluginError, match=r"no engine plugin 'ecoh'; installed: .*echo"):
        load("ecoh")


@pytest.mark.parametrize("source", ["import nowhere_to_be_found", "raise ValueError('nowhere_to_be_found')"])
def test_a_plugin_that_cannot_be_imported_is_named(distribution, source):
    distribution("broken", source)
    with pytest.raises(PluginError, match=r"'broken' cannot be imported: .*nowhere_to_be_found") as failed:
        load("broken")
    assert failed.value.__cause__ is not None


def test_a_plugin_that_is_not_where_it_says_is_named(distribution):
    distribution("lost", WORKING, target="gateway_lost:plug")
    with pytest.raises(PluginError, match="'lost' cannot be imported"):
        load("lost")


def test_an_entry_point_that_is_no_plugin_is_named(distribution):
    distribution("odd", "plugin = dict()")
    with pytest.raises(PluginError, match=r"'odd' is a dict, not a gateway\.engine\.Plugin"):
        load("odd")


def test_an_engine_class_is_not_a_plugin(distribution):
    distribution("bare", "from gateway_echo import EchoEngine as plugin")
    with pytest.raises(PluginError, match="'bare' is a ABCMeta, not"):
        load("bare")
