"""Layers, their order, and errors that say where."""

import pytest

from gateway import config
from gateway.config import ConfigError

ECHO = {config.PLAIN["ENGINE"]: "echo"}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in (*config.PLAIN, "LLM_GATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def write(tmp_path, text):
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    return str(file)


def test_with_no_configuration_the_builtin_model_is_served_on_loopback():
    found = config.read()
    assert (found.server.host, found.server.port) == ("127.0.0.1", 8000)
    assert found.engines["default"].plugin == "hf"
    assert found.engines["default"].settings["model"] == "builtin"


def test_later_layers_win(monkeypatch, tmp_path):
    file = write(tmp_path, "[server]\nport = 1001\nhost = 'file'\n[engines.default]\nplugin = 'echo'")
    assert config.read(file).server.port == 1001
    (tmp_path / ".env").write_text("PORT=1002\n")
    assert config.read(file).server.port == 1002
    monkeypatch.setenv("PORT", "1003")
    assert config.read(file).server.port == 1003
    monkeypatch.setenv("LLM_GATEWAY__SERVER__PORT", "1004")
    assert config.read(file).server.port == 1004
    found = config.read(file, {"server.port": "1005"})
    assert (found.server.port, found.server.host) == (1005, "file")


def test_a_dotenv_long_name_yields_to_the_environments_plain_name(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("LLM_GATEWAY__SERVER__PORT=1002\n")
    monkeypatch.setenv("PORT", "1003")
    assert config.read(flags=ECHO).server.port == 1003


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("HOST", "0.0.0.0", "server.host", "0.0.0.0"),  # noqa: S104 - read, not bound
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


def test_a_plain_name_without_a_setting_is_one_warning(monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")
    assert config.read(flags=ECHO).warnings == ("DEVICE is ignored: the engine plugin 'echo' has no setting 'device'",)


def test_the_same_key_in_a_file_is_an_error(tmp_path):
    file = write(tmp_path, "[engines.default]\nplugin = 'echo'\nsettings = { device = 'cpu' }")
    with pytest.raises(ConfigError, match=r"gateway\.toml: engines\.default\.settings\.device: there is no such"):
        config.read(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nport = 'x'", r"gateway\.toml: server\.port: expected `int`"),
        ("[server]\nport = 70000", r"gateway\.toml: server\.port: expected `int` <= 65535"),
        ("[server]\nprot = 1", r"gateway\.toml: server\.prot: there is no such setting"),
        ("[sevrer]\nport = 1", r"gateway\.toml: sevrer: there is no such setting"),
        ("[server]\ndrain_seconds = -1", r"gateway\.toml: server\.drain_seconds: expected `float` >= 0"),
        ("[server", r"gateway\.toml: Expected ']'"),
        ("[server]\nworkers = 2", r"server\.workers: 2 is refused"),
        ("[engines]\n", r"engines: at least one engine"),
        ("[engines.default]\nplugin = 'nope'", r"gateway\.toml: engines\.default\.plugin: .*no engine plugin 'nope'"),
        ("[engines.'a/b']\nplugin = 'echo'", r"'a/b' is no name for an engine"),
        ("[cors]\norigins = ['*']\ncredentials = true", r"cors\.credentials"),
        ("warnings = ['x']", r"warnings"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_path(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        config.read(write(tmp_path, text), None if "engines" in text else ECHO)


def test_a_wrong_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__SERVER__PORT", "x")
    with pytest.raises(ConfigError, match=r"LLM_GATEWAY__SERVER__PORT: server\.port: expected `int`, got `str`"):
        config.read(flags=ECHO)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
        config.read(str(tmp_path / "missing.toml"))


def test_lists_are_written_as_json_in_the_environment(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__CORS__ORIGINS", '["https://a.example"]')
    assert config.read(flags=ECHO).cors.origins == ("https://a.example",)


def test_the_first_engine_is_the_one_of_the_plain_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINE", "echo")
    file = write(tmp_path, "[engines.other]\nplugin = 'echo'\n[engines.other.settings]\nmodel = 'o'")
    assert list(config.read(file).engines) == ["default", "other"]
    monkeypatch.delenv("ENGINE")
    assert list(config.read(file).engines) == ["other"]


def test_what_is_handed_over_is_taken_over_whole(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    found = config.read(flags=ECHO | {"server.port": "1234"})
    config.hand_over(found)
    assert config.take_over() == found


def test_converted_models_go_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert config.read().engines["default"].settings["cache_folder"] == str(tmp_path / "llm-gateway")
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__CACHE_FOLDER", "/elsewhere")
    assert config.read().engines["default"].settings["cache_folder"] == "/elsewhere"


def test_the_exporter_none_sends_nothing_whatever_the_endpoint(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert config.read(flags=ECHO).telemetry.otlp_endpoint is None


def test_the_endpoint_for_traces_wins_over_the_one_for_all(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1")
    assert config.read(flags=ECHO).telemetry.otlp_endpoint == "http://traces:1"
