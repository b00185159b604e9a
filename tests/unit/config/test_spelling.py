"""Names that are nearly right are never ignored in silence."""

import pytest

from gateway import config
from gateway.config import ConfigError
from gateway.config.spelling import meant

ECHO = {config.PLAIN["ENGINE"]: "echo"}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("PORTS", "PORT"),
        ("PROT", "PORT"),
        ("port", "PORT"),
        ("HOSTS", "HOST"),
        ("MODEL", "MODEL_NAME"),
        ("MODELNAME", "MODEL_NAME"),
        ("WORKER", "WORKERS"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("METRICS", "METRICS_ENABLED"),
        ("TEMPRATURE", "TEMPERATURE"),
        ("MAX_LENGHT", "MAX_LENGTH"),
        ("OTEL_EXPORTER_OLTP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("llm_gateway__server__port", "LLM_GATEWAY__SERVER__PORT"),
        ("LLMGATEWAY__SERVER__PORT", "LLM_GATEWAY__SERVER__PORT"),
        ("LLM_GATWAY__SERVER__PORT", "LLM_GATEWAY__SERVER__PORT"),
    ],
)
def test_a_variable_that_is_nearly_one_of_ours_is_a_warning(monkeypatch, tmp_path, name, right):
    monkeypatch.setenv(name, "1")
    assert config.read(flags=ECHO).warnings == (f"{name} is ignored: there is no such name; write {right}",)
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=1\n")
    [warning] = config.read(flags=ECHO).warnings
    assert warning.startswith(".env: ")
    assert warning.endswith(f"write {right}")


@pytest.mark.parametrize(
    "name",
    [
        "HOSTNAME",
        "HOSTTYPE",
        "EXPORT",
        "REPORT",
        "LEVEL",
        "NAME",
        "SERVICE",
        "UV_LOG_LEVEL",
        "HF_MODEL_NAME",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        "OTEL_SERVICE_VERSION",
        "MLX_GATEWAY__A",
    ],
)
def test_a_variable_of_another_program_is_none(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert config.read(flags=ECHO).warnings == ()


def test_where_the_right_name_is_set_too_the_other_one_is_not_meant(monkeypatch):
    monkeypatch.setenv("PORTS", "31000,31001")
    monkeypatch.setenv("PORT", "31000")
    assert config.read(flags=ECHO).warnings == ()


def test_what_kubernetes_tells_of_a_service_of_nearly_this_name_is_none(monkeypatch):
    monkeypatch.setenv("LLMGATEWAY_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("LLMGATEWAY__PORT", "tcp://10.0.0.1:8000")
    assert config.read(flags=ECHO).warnings == ()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[server]\nprot = 1", r"server\.prot: there is no such setting; did you mean server\.port\?$"),
        ("server_port = 1", r"server_port: there is no such setting; did you mean server\.port\?$"),
        ("[sevrer]\nport = 1", r"sevrer: there is no such setting; did you mean server\?$"),
        (
            "[engines.a]\nplugin = 'echo'\n[engines.b]\nplugn = 'echo'",
            r"engines\.b\.plugn: .*did you mean engines\.b\.plugin\?$",
        ),
        (
            "[engines.default.settings]\ndely = 1",
            r"engines\.default\.settings\.dely: .*mean engines\.default\.settings\.delay\?$",
        ),
        ("[server]\nnonsense = 1", r"server\.nonsense: there is no such setting$"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_with_the_one_that_was_meant(write, text, meant):
    with pytest.raises(ConfigError, match=r"^gateway\.toml: |^/.*gateway\.toml: ") as refused:
        config.read(write(text), None if "engines.a" in text else ECHO)
    assert refused.match(meant)


def test_a_long_name_with_a_separator_that_is_wrong_is_refused_with_the_right_one(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__SERVER_PORT", "1")
    with pytest.raises(ConfigError, match=r"^LLM_GATEWAY__SERVER_PORT: .*did you mean server\.port\?$"):
        config.read(flags=ECHO)


def test_only_a_close_name_is_meant():
    assert meant("max_tokens", ["max_length", "temperature"]) is None
    assert meant("temprature", ["max_length", "temperature"]) == "temperature"
