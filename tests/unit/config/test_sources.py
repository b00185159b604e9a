"""Where values come from, in which order, and names that are none."""

import pytest

from gateway import config
from gateway.config import ConfigError

ECHO = {config.PLAIN["ENGINE"]: "echo"}
EVERYWHERE = ECHO | {"server.host": "0.0.0.0"}  # noqa: S104 - read, not bound


def test_later_layers_win(monkeypatch, tmp_path, write):
    file = write("[server]\nport = 1001\nhost = '127.0.0.3'\n[engines.default]\nplugin = 'echo'")
    assert config.read(file).server.port == 1001
    (tmp_path / ".env").write_text("PORT=1002\n")
    assert config.read(file).server.port == 1002
    monkeypatch.setenv("PORT", "1003")
    assert config.read(file).server.port == 1003
    monkeypatch.setenv("LLM_GATEWAY__SERVER__PORT", "1004")
    assert config.read(file).server.port == 1004
    found = config.read(file, {"server.port": "1005"})
    assert (found.server.port, found.server.host) == (1005, "127.0.0.3")


def test_a_dotenv_long_name_yields_to_the_environments_plain_name(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("LLM_GATEWAY__SERVER__PORT=1002\n")
    monkeypatch.setenv("PORT", "1003")
    assert config.read(flags=ECHO).server.port == 1003


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("HOST", "127.0.0.2", "server.host", "127.0.0.2"),
        ("PORT", "9000", "server.port", 9000),
        ("MAX_LENGTH", "77", "generate.max_length", 77),
        ("TEMPERATURE", "0.5", "generate.temperature", 0.5),
        ("LOG_LEVEL", "debug", "telemetry.log_level", "DEBUG"),
        ("METRICS_ENABLED", "false", "telemetry.metrics_enabled", False),
        ("OTEL_SERVICE_NAME", "mine", "telemetry.service_name", "mine"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1", "telemetry.otlp_endpoint", "http://x:1"),
    ],
)
def test_every_plain_name_reaches_its_setting(monkeypatch, name, value, path, expected):
    monkeypatch.setenv(name, value)
    section, key = path.split(".")
    assert getattr(getattr(config.read(flags=ECHO), section), key) == expected


def test_the_plain_names_of_the_engine_set_up_the_default_one(monkeypatch):
    monkeypatch.setenv("MODEL_NAME", "a/b")
    monkeypatch.setenv("DEVICE", "auto")
    settings = config.read().engines["default"].settings
    assert (settings["model"], settings["device"]) == ("a/b", "auto")


def test_an_empty_value_is_no_value(monkeypatch):
    monkeypatch.setenv("PORT", "")
    assert config.read(flags=ECHO).server.port == 8000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("PORT=1000\n\nPORT\n", 3),
        ("# fine\nHOST='127.0.0.1\n", 2),
        ("ENGINE echo\n", 1),
    ],
)
def test_a_broken_line_of_a_dotenv_file_is_named(tmp_path, text, line):
    (tmp_path / ".env").write_text(text)
    with pytest.raises(ConfigError, match=rf"^\.env: line {line}: expected NAME=value"):
        config.read(flags=ECHO)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("LLM_GATEWAY_PORT", "write PORT or LLM_GATEWAY__SERVER__PORT"),
        ("LLM_GATEWAY_SERVER__PORT", "write LLM_GATEWAY__SERVER__PORT"),
        ("LLM_GATEWAY_SERVER_DRAIN_SECONDS", "write LLM_GATEWAY__SERVER__DRAIN_SECONDS"),
        ("LLM_GATEWAY_SERVER_PROT", "write LLM_GATEWAY__SERVER__PORT"),
        ("LLM_GATEWAY_KEY", "write LLM_GATEWAY_API_KEY"),
        ("LLM_GATEWAY_CONFG", "write LLM_GATEWAY_CONFIG"),
        ("LLM_GATEWAY_NONSENSE", "a setting is written LLM_GATEWAY__SECTION__KEY"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(monkeypatch, tmp_path, name, right):
    (tmp_path / ".env").write_text(f"{name}=1\n")
    with pytest.raises(ConfigError, match=rf"^\.env: {name}: there is no such name; {right}$"):
        config.read(flags=ECHO)
    (tmp_path / ".env").unlink()
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=rf"^{name}: there is no such name; {right}$"):
        config.read(flags=ECHO)


def test_what_kubernetes_tells_of_a_service_of_this_name_is_no_setting(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("LLM_GATEWAY_PORT", "tcp://10.0.0.1:8000")
    assert config.read(flags=ECHO).server.port == 8000


def test_a_dotenv_file_may_name_the_configuration_file(tmp_path, write):
    write("[server]\nport = 1001")
    (tmp_path / ".env").write_text("LLM_GATEWAY_CONFIG=gateway.toml\n")
    assert config.read(flags=ECHO).server.port == 1001


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
        config.read(str(tmp_path / "missing.toml"))


def test_lists_are_written_as_json_in_the_environment(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__CORS__ORIGINS", '["https://a.example"]')
    assert config.read(flags=ECHO).cors.origins == ("https://a.example",)


def test_the_exporter_none_sends_nothing_whatever_the_endpoint(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x:1/v1/traces")
    found = config.read(flags=ECHO).telemetry
    assert (found.otlp_endpoint, found.otlp_traces_endpoint) == (None, None)


def test_the_endpoint_for_traces_is_a_setting_beside_the_one_for_all(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1/in")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1")
    found = config.read(flags=ECHO).telemetry
    assert (found.otlp_endpoint, found.otlp_traces_endpoint) == ("http://all:1", "http://traces:1/in")


def test_a_greeting_can_say_how_the_program_was_called(monkeypatch):
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    assert config.command() == "llm-gateway"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert config.command() == "uv run llm-gateway"


def test_a_key_in_the_configuration_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__AUTH__KEYS__SHOP__SHA256", "1" * 64)
    monkeypatch.setenv("LLM_GATEWAY__AUTH__KEYS__SHOP__SCOPES", '["admin"]')
    monkeypatch.setenv("LLM_GATEWAY__AUTH__KEYS__SHOP__QUOTA__CONCURRENT", "2")
    shop = config.read(flags=EVERYWHERE).auth.keys["shop"]
    assert (shop.sha256, shop.scopes, shop.quota.concurrent) == ("1" * 64, {"admin"}, 2)


def test_the_key_of_the_clients_is_no_setting(monkeypatch, tmp_path):
    monkeypatch.delenv("LLM_GATEWAY_API_KEY", raising=False)
    assert config.api_key() is None
    (tmp_path / ".env").write_text("LLM_GATEWAY_API_KEY=llmg_written\n")
    assert config.api_key() == "llmg_written"
    monkeypatch.setenv("LLM_GATEWAY_API_KEY", "llmg_given")
    assert config.api_key() == "llmg_given"
    assert "llmg_" not in str(config.read(flags=ECHO))


def test_a_child_process_looks_for_modules_in_named_folders_only(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":/lib::/other:")
    given = config.environment()
    assert (given["PYTHONPATH"], given["PYTHONSAFEPATH"]) == ("/lib:/other", "1")
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in config.environment()
