"""A configuration is read whole, and errors say where."""

import subprocess
import sys

import pytest

from gateway import config
from gateway.config import ConfigError

ECHO = {config.PLAIN["ENGINE"]: "echo"}
KEY = "[auth.keys.{}]\nsha256 = '" + "0" * 64 + "'\n"


def test_with_no_configuration_the_builtin_model_is_served_on_loopback():
    found = config.read()
    assert (found.server.host, found.server.port) == ("127.0.0.1", 8000)
    assert found.engines["default"].plugin == "hf"
    assert found.engines["default"].settings["model"] == "builtin"


def test_a_plain_name_without_a_setting_is_one_warning(monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")
    assert config.read(flags=ECHO).warnings == ("DEVICE is ignored: the engine plugin 'echo' has no setting 'device'",)


def test_the_same_key_in_a_file_is_an_error(write):
    file = write("[engines.default]\nplugin = 'echo'\nsettings = { device = 'cpu' }")
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
            r"gateway\.toml: auth\.keys\.a\.sha256: expected `str` matching",
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
def test_what_is_wrong_is_named_with_its_file_and_path(text, message, write):
    with pytest.raises(ConfigError, match=message):
        config.read(write(text), None if "engines" in text else ECHO)


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


def test_the_long_name_of_a_setting_that_an_engine_lacks_is_an_error(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DEVICE", "cpu")
    with pytest.raises(ConfigError, match=r"settings\.device: there is no such setting"):
        config.read(flags=ECHO)


def test_the_first_engine_is_the_one_of_the_plain_names(monkeypatch, write):
    monkeypatch.setenv("ENGINE", "echo")
    file = write("[engines.other]\nplugin = 'echo'\n[engines.other.settings]\nmodel = 'o'")
    assert list(config.read(file).engines) == ["default", "other"]
    monkeypatch.delenv("ENGINE")
    assert list(config.read(file).engines) == ["other"]


def test_converted_models_go_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert config.read().engines["default"].settings["cache_folder"] == str(tmp_path / "llm-gateway")
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__CACHE_FOLDER", "/elsewhere")
    assert config.read().engines["default"].settings["cache_folder"] == "/elsewhere"


def test_keys_limits_and_admission_are_read_whole(write):
    file = write(
        KEY.format("shop") + "scopes = ['infer', 'metrics']\nmodels = ['a']\nquota = { tokens_per_day = 5 }\n"
        "[limits]\nstore_url = 'rediss://:hidden@x:6379/0'\nwhen_down = 'refuse'\nreplicas = 3\n"
        "[limits.default]\nrequests_per_minute = 7\n[admission]\nfirst_token_seconds = 2\n",
    )
    found = config.read(file, ECHO)
    shop = found.auth.keys["shop"]
    assert (shop.scopes, shop.models, shop.quota.tokens_per_day) == ({"infer", "metrics"}, {"a"}, 5)
    assert (found.limits.when_down, found.limits.replicas, found.limits.default.requests_per_minute) == ("refuse", 3, 7)
    assert (found.admission.first_token_seconds, found.admission.queue_seconds) == (2.0, 10.0)


def test_reading_the_configuration_imports_no_server_no_store_and_no_telemetry():
    code = "import sys, gateway.config\n"
    code += "print(sorted({'redis', 'opentelemetry', 'litestar', 'granian', 'aiohttp', 'httpx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
