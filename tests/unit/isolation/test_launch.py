"""What a process is told, and what it may know."""

import io

import pytest

from gateway.isolation import launch
from gateway.isolation.launch import Launch, scrubbed_environment

TOLD = Launch(parent=1, listener=3, plugin="echo", settings=b"\x80", beat=0.5, leave=10.0)


def test_a_launch_is_read_as_it_was_written_and_nothing_behind_it():
    pipe = io.BytesIO(launch.write(TOLD) + b"rest")
    assert launch.read(pipe) == TOLD
    assert pipe.read() == b"rest"


def test_a_launch_that_breaks_off_is_no_launch():
    with pytest.raises(EOFError):
        launch.read(io.BytesIO(launch.write(TOLD)[:-1]))


@pytest.mark.parametrize("name", ["PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS", "LC_ALL", "HF_HOME"])
def test_an_engine_knows_where_things_are(name):
    assert scrubbed_environment({name: "x"}, is_offline=True)[name] == "x"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "RAY_AUTH_TOKEN",
        "LLM_GATEWAY_HANDOVER",
        "AWS_SECRET_ACCESS_KEY",
        "DATABASE_URL",
        "PASSWORD",
        "REDIS_URL",
    ],
)
@pytest.mark.parametrize("is_offline", [True, False])
def test_an_engine_knows_no_secret(name, is_offline):
    assert name not in scrubbed_environment({name: "x"}, is_offline=is_offline)


def test_an_engine_is_offline_unless_it_must_download():
    proxy = {"HTTPS_PROXY": "http://proxy", "HF_HUB_OFFLINE": "0"}
    assert scrubbed_environment(proxy, is_offline=True)["HF_HUB_OFFLINE"] == "1"
    assert "HTTPS_PROXY" not in scrubbed_environment(proxy, is_offline=True)
    online = scrubbed_environment(proxy, is_offline=False)
    assert online["HF_HUB_OFFLINE"] == "0"
    assert online["HTTPS_PROXY"] == "http://proxy"


@pytest.mark.parametrize("is_offline", [True, False])
def test_no_library_reports_home_whatever_the_environment_says(is_offline):
    told = {"RAY_USAGE_STATS_ENABLED": "1", "HF_HUB_DISABLE_TELEMETRY": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1"}
    kept = scrubbed_environment(told, is_offline=is_offline)
    assert {name: kept[name] for name in told} == {
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
