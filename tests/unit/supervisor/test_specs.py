import pytest

from gateway.config import EngineSettings
from gateway.supervisor.specs import spec_of


@pytest.mark.parametrize("plugin", ["echo", "hf"])
def test_a_worker_asks_for_what_the_supervisor_prepared(monkeypatch, tmp_path, plugin):
    """The worker has a temporary folder of its own; a process that differs in it would be killed and started again."""
    engine = EngineSettings(plugin=plugin, isolated=True)
    prepared = spec_of("default", engine)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert spec_of("default", engine) == prepared
