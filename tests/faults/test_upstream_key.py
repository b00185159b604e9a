"""The key of a server behind the gateway is sent to that server, and seen nowhere else."""

from pathlib import Path

import psutil
import pytest

from tests.support.service import Service

SETTINGS = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
KEY = "sk-0123456789abcdefghijklmnopqrstuvwxyz"
PAGES = (
    "/v1/models",
    "/v1/models/echo",
    "/v1/health",
    "/metrics",
    "/v1/models/echo/capabilities",
    "/v1/admin/requests",
)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A gateway that needs a key, and one before it that has the key in a variable; an isolated engine beside."""
    folder = tmp_path_factory.mktemp("keys")
    with (
        Service() as plain,
        Service(
            "--log-level",
            "debug",
            cwd=folder,
            ENGINE="openai",
            REMOTE_KEY=KEY,
            LLM_GATEWAY__ENGINES__BESIDE__PLUGIN="scripted",
            LLM_GATEWAY__ENGINES__BESIDE__ISOLATED="true",
            **{f"{SETTINGS}BASE_URL": f"{plain.url}/v1", f"{SETTINGS}API_KEY_ENV": "REMOTE_KEY"},
        ) as service,
    ):
        service.wait_for("/v1/models/scripted")
        yield service


def processes(service):
    main = psutil.Process(service.process.pid)
    return [main, *main.children(recursive=True)]


def test_no_page_no_error_and_no_line_of_the_log_shows_the_key(keyed):
    for path in PAGES:
        assert KEY not in keyed.client.get(path).text
    refused = keyed.client.post("/v1/completions", json={"model": "echo", "prompt": "a", "max_tokens": 99_999})
    assert refused.status_code == 400
    assert keyed.client.post("/v1/completions", json={"model": "echo", "prompt": "a"}).status_code == 200
    assert KEY not in refused.text + str(refused.headers)
    assert KEY not in keyed.output


def test_only_the_processes_that_ask_the_server_have_the_key(keyed):
    holding = {process.pid for process in processes(keyed) if KEY.encode() in _environment(process)}
    commands = {process.pid: " ".join(process.cmdline()) for process in processes(keyed)}
    engines = {pid for pid, command in commands.items() if "isolation" in command}
    assert engines, commands
    assert holding, "the worker has it"
    assert not holding & engines
    assert not any(KEY in command for command in commands.values())


def _environment(process):
    try:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"API_KEY_ENV": "NOT_THERE"}, "the environment has no NOT_THERE"),
        ({"API_KEY_ENV": "REMOTE_KEY", "API_KEY_FILE": "/dev/null"}, "there are two keys"),
        ({"API_KEY_ENV": "BROKEN_KEY"}, "the variable BROKEN_KEY holds no key"),
    ],
)
def test_a_key_that_cannot_be_had_fails_the_load_in_a_line(settings, told):
    own = {f"{SETTINGS}{name}": value for name, value in settings.items()}
    own |= {f"{SETTINGS}BASE_URL": "http://127.0.0.1:1/v1", "REMOTE_KEY": KEY, "BROKEN_KEY": f"{KEY} ü"}
    with Service(ENGINE="openai", ready=False, LLM_GATEWAY__ENGINES__BESIDE__PLUGIN="echo", **own) as service:
        service.wait_for("/readyz")
        health = service.client.get("/v1/health").text
        assert told in health
        assert KEY not in health + service.output


def test_a_key_in_the_place_of_a_name_is_refused_and_not_shown():
    own = {f"{SETTINGS}BASE_URL": "http://127.0.0.1:1/v1", f"{SETTINGS}API_KEY_ENV": KEY}
    with Service(ENGINE="openai", ready=False, **own) as service:
        service.process.wait(60)
        assert "api_key_env" in service.output
        assert KEY not in service.output
