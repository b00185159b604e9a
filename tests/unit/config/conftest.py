"""No configuration but the test's own."""

import pytest

from gateway import config


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """An empty folder to work in, and none of the machine's own variables."""
    monkeypatch.chdir(tmp_path)
    for name in (*config.PLAIN, "LLM_GATEWAY_CONFIG", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path):
    """A function that writes the configuration file, and returns its path."""

    def write(text):
        file = tmp_path / "gateway.toml"
        file.write_text(text)
        return str(file)

    return write
