"""Layers, their order, and errors that say where."""

import os

import pytest

from gateway.auth import KeyFile
from gateway.config import load as config
from gateway.config.load import ConfigError

ECHO = {config.PLAIN["ENGINE"]: "echo"}
EVERYWHERE = ECHO | {"server.host": "0.0.0.0"}  # noqa: S104 - read, not bound
KEY = "[auth.keys.{}]\nsha256 = '" + "0" * 64 + "'\n"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in (*config.PLAIN, "LLM_GATEWAY_CONFIG", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
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
    file = write(tmp_path, "[server]\nport = 1001\nhost = '127.0.0.3'\n[engines.default]\nplugin = 'echo'")
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
        ("[server]\nworkers = 2", r"gateway\.toml: server\.workers: 2 is refused"),
        ("[engines]\n", r"engines: at least one engine"),
        ("[engines.default]\nplugin = 'nope'", r"gateway\.toml: engines\.default\.plugin: .*no engine plugin 'nope'"),
        ("[engines.'a/b']\nplugin = 'echo'", r"'a/b' is no name for an engine"),
        ("[cors]\norigins = ['*']\ncredentials = true", r"gateway\.toml: cors\.credentials: credentials cannot"),
        ("warnings = ['x']", r"gateway\.toml: warnings: there is no such setting"),
        ("[telemetry]\nlog_format = 'xml'", r"log_format: .*'xml'; it is one of 'auto', 'json', 'text'$"),
        ("[telemetry]\notlp_endpoint = 'collector:4318'", r"gateway\.toml: telemetry\.otlp_endpoint: 'collector:4318'"),
        ("[telemetry]\notlp_traces_endpoint = 'http://'", r"telemetry\.otlp_traces_endpoint: 'http://' is no URL"),
        ("[telemetry]\notlp_endpoint = 'http://x:port'", r"telemetry\.otlp_endpoint: 'http://x:port' is no URL"),
        ("[auth]\nfiel = 'x'", r"gateway\.toml: auth\.fiel: there is no such setting"),
        (
            "[auth.keys.a]\nsha256 = 'llmg_x'",
            r"gateway\.toml: auth\.keys(\.a|\[\.\.\.\])?\.sha256: expected `str` matching",
        ),
        (KEY.format("a") + KEY.format("b"), r"gateway\.toml: auth\.keys\.b\.sha256: this is the key of auth\.keys\.a"),
        ("[limits.default]\nrequests_per_minute = 0", r"limits\.default\.requests_per_minute: expected `int` >= 1"),
        ("[limits]\nwhen_down = 'hang'", r"limits\.when_down: .*'hang'; it is one of 'local', 'refuse'$"),
        ("[limits]\nreplicas = 0", r"gateway\.toml: limits\.replicas: expected `int` >= 1"),
        (
            "[limits]\nstore_url = 'http://:hidden@x'",
            r"limits\.store_url: it is no address of a store; expected redis:",
        ),
        ("[admission]\nqueue_seconds = 0", r"gateway\.toml: admission\.queue_seconds: expected `float` > 0"),
        ("[admission]\nwaiters_per_place = 0", r"admission\.waiters_per_place: expected `int` >= 1"),
        ("[server]\nport = '8000'", r"gateway\.toml: server\.port: expected `int`, got `str`"),
        ("[server]\nstrict = 'true'", r"gateway\.toml: server\.strict: expected `bool`, got `str`"),
        ("[cors]\norigins = 'x'", r"gateway\.toml: cors\.origins: expected `array`, got `str`"),
        ("[cors]\norigins = [1]", r"gateway\.toml: cors\.origins(\[0\])?: expected `str`, got `int`"),
        (
            "[engines.default]\nplugin = 'echo'\nsettings = { delay = '1' }",
            r"gateway\.toml: engines\.default\.settings\.delay: expected `float`",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_path(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        config.read(write(tmp_path, text), None if "engines" in text else ECHO)


def test_a_wrong_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__SERVER__PORT", "x")
    with pytest.raises(ConfigError, match=r"LLM_GATEWAY__SERVER__PORT: server\.port: expected `int`, got `str`"):
        config.read(flags=ECHO)


def test_a_wrong_flag_is_named():
    with pytest.raises(ConfigError, match=r"^--port: server\.port: expected `int` <= 65535$"):
        config.read(flags=ECHO | {"server.port": "70000"})


def test_texts_are_converted_to_what_the_engine_wants_too(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY", "0.5")
    assert config.read(flags=ECHO).engines["default"].settings["delay"] == 0.5
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY", "slow")
    with pytest.raises(
        ConfigError, match=r"^LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY: .*delay: expected `float`"
    ):
        config.read(flags=ECHO)


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


def test_a_dotenv_file_may_name_the_configuration_file(tmp_path):
    write(tmp_path, "[server]\nport = 1001")
    (tmp_path / ".env").write_text("LLM_GATEWAY_CONFIG=gateway.toml\n")
    assert config.read(flags=ECHO).server.port == 1001


def test_the_long_name_of_a_setting_that_an_engine_lacks_is_an_error(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DEVICE", "cpu")
    with pytest.raises(ConfigError, match=r"settings\.device: there is no such setting"):
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


PLACES = {"address": "127.0.0.1", "control": "/control"}


def test_what_is_handed_over_is_taken_over_whole(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    found = config.read(flags=ECHO | {"server.port": "1234"})
    config.hand_over(found, **PLACES)
    monkeypatch.setattr("os.getppid", os.getpid)
    assert config.take_over() == found


def test_converted_models_go_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert config.read().engines["default"].settings["cache_folder"] == str(tmp_path / "llm-gateway")
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__CACHE_FOLDER", "/elsewhere")
    assert config.read().engines["default"].settings["cache_folder"] == "/elsewhere"


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


def test_a_disabled_sdk_sends_no_traces_and_is_kept_from_the_worker(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    found = config.read(flags=ECHO)
    assert found.telemetry.otlp_endpoint is None
    config.hand_over(found, **PLACES)
    assert config.read(flags=ECHO) == found  # as at a reload
    monkeypatch.setattr("os.getppid", os.getpid)
    config.hand_on()
    assert "OTEL_SDK_DISABLED" not in os.environ


def test_a_handover_is_for_the_children_of_who_left_it(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    assert config.handed_over() is None
    config.hand_over(config.read(flags=ECHO), **PLACES)
    assert config.handed_over() is None
    monkeypatch.setattr("os.getppid", os.getpid)
    found = config.handed_over()
    assert (found.giver, found.address, found.control) == (os.getpid(), "127.0.0.1", "/control")


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("a.example", "http://a.example:8000")],  # noqa: S104 - read, not bound
)
def test_a_server_says_where_a_client_finds_it(host, url):
    assert config.ServerSettings(host=host).url == url


def test_a_greeting_can_say_how_the_program_was_called(monkeypatch):
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    assert config.command() == "llm-gateway"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert config.command() == "uv run llm-gateway"


def test_keys_limits_and_admission_are_read_whole(tmp_path):
    file = write(
        tmp_path,
        KEY.format("shop") + "scopes = ['infer', 'metrics']\nmodels = ['a']\nquota = { tokens_per_day = 5 }\n"
        "[limits]\nstore_url = 'rediss://:hidden@x:6379/0'\nwhen_down = 'refuse'\nreplicas = 3\n"
        "[limits.default]\nrequests_per_minute = 7\n[admission]\nfirst_token_seconds = 2\n",
    )
    found = config.read(file, ECHO)
    shop = found.auth.keys["shop"]
    assert (shop.scopes, shop.models, shop.quota.tokens_per_day) == ({"infer", "metrics"}, {"a"}, 5)
    assert (found.limits.when_down, found.limits.replicas, found.limits.default.requests_per_minute) == ("refuse", 3, 7)
    assert (found.admission.first_token_seconds, found.admission.queue_seconds) == (2.0, 10.0)


def test_a_key_in_the_configuration_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__AUTH__KEYS__SHOP__SHA256", "1" * 64)
    monkeypatch.setenv("LLM_GATEWAY__AUTH__KEYS__SHOP__SCOPES", '["admin"]')
    monkeypatch.setenv("LLM_GATEWAY__AUTH__KEYS__SHOP__QUOTA__CONCURRENT", "2")
    shop = config.read(flags=EVERYWHERE).auth.keys["shop"]
    assert (shop.sha256, shop.scopes, shop.quota.concurrent) == ("1" * 64, {"admin"}, 2)


def test_a_store_is_never_named_with_its_password(tmp_path):
    with pytest.raises(ConfigError) as refused:
        config.read(write(tmp_path, "[limits]\nstore_url = 'http://:hidden@x'"), ECHO)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_loopback_needs_no_key(host):
    assert config.read(flags=ECHO | {"server.host": host}).server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "nowhere.invalid", ""])  # noqa: S104 - read, not bound
def test_any_other_address_needs_a_key_or_a_word(tmp_path, host):
    file = write(tmp_path, f"[server]\nhost = '{host}'\n")
    with pytest.raises(
        ConfigError, match=rf"gateway\.toml: server\.host: there is no key, so .* {host} .*insecure-no-auth"
    ):
        config.read(file, ECHO)
    assert config.read(file, ECHO | {"auth.insecure_no_auth": "true"}).auth.insecure_no_auth
    assert config.look(file, ECHO).server.host == host
    (tmp_path / "gateway.toml").write_text(f"[server]\nhost = '{host}'\n{KEY.format('me')}")
    assert config.read(file, ECHO).auth.keys


def test_the_keys_of_a_file_open_any_address(tmp_path):
    KeyFile(tmp_path / "keys.db").create("me")
    assert config.read(flags=EVERYWHERE | {"auth.file": "keys.db"}).auth.file == "keys.db"


def test_a_file_without_a_key_is_refused_on_the_loopback_too():
    missing = ECHO | {"auth.file": "Missing/keys.db"}
    with pytest.raises(
        ConfigError, match=r"auth\.file: there is no key in Missing/keys\.db yet; make one \(`.*keys create"
    ):
        config.read(flags=missing)
    assert config.read(flags=missing | {"auth.insecure_no_auth": "true"}).auth.file


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [
        (0o644, None, "its mode is 0644, so others may read it; it must be 0600"),
        (0o600, b"no such thing" * 100, "file is not a database"),
        (0o600, b"", "no such table: keys"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_whatever_was_asked_for(tmp_path, mode, text, why):
    file = KeyFile(tmp_path / "keys.db")
    file.create("me")
    if text is not None:
        file.path.write_bytes(text)
    file.path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"^auth\.file: auth\.file: the keys cannot be read: keys\.db: {why}$"):
        config.read(flags=ECHO | {"auth.file": "keys.db", "auth.insecure_no_auth": "true"})
    assert config.look(flags=ECHO | {"auth.file": "keys.db"}).auth.file == "keys.db"


def test_the_key_of_the_clients_is_no_setting(monkeypatch, tmp_path):
    monkeypatch.delenv("LLM_GATEWAY_API_KEY", raising=False)
    assert config.api_key() is None
    (tmp_path / ".env").write_text("LLM_GATEWAY_API_KEY=llmg_written\n")
    assert config.api_key() == "llmg_written"
    monkeypatch.setenv("LLM_GATEWAY_API_KEY", "llmg_given")
    assert config.api_key() == "llmg_given"
    assert "llmg_" not in str(config.read(flags=ECHO))
