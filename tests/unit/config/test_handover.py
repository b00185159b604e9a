"""What the supervisor leaves for its children, and nobody else takes."""

import os
import threading

import pytest

from gateway import config

ECHO = {config.PLAIN["ENGINE"]: "echo"}
PLACES = {"listener": 7, "control": "/control"}


@pytest.fixture
def file(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    file = config.HandoverFile()
    yield file
    os.close(file.fd)


@pytest.fixture
def child(monkeypatch):
    """Make this process the child of what left the handover."""
    monkeypatch.setattr("os.getppid", os.getpid)


def handover(**flags):
    return config.Handover(config=config.read(flags=ECHO | flags), **PLACES)


@pytest.mark.usefixtures("child")
def test_what_is_handed_over_is_taken_over_whole(file):
    left = handover(**{"server.port": "1234"})
    file.write(left)
    assert config.handed_over() == left


@pytest.mark.usefixtures("child")
@pytest.mark.parametrize("sizes", [(1, 5_000), (5_000, 1)])
def test_the_last_one_is_taken_over_whatever_its_size(file, sizes):
    for size in sizes:
        file.write(left := handover(**{"engines.default.settings.model": "m" * size}))
    assert config.handed_over() == left


@pytest.mark.usefixtures("child")
def test_one_that_is_being_written_is_waited_for(file, monkeypatch):
    file.write(handover())
    content = os.pread(file.fd, 10**6, 0)
    os.pwrite(file.fd, b"half", 40)
    threading.Timer(0.05, os.pwrite, (file.fd, content, 0)).start()
    assert config.handed_over() == handover()
    os.ftruncate(file.fd, 20)
    monkeypatch.setattr("gateway.config.handover._AGAIN_SECONDS", 0.0)
    with pytest.raises(config.ConfigError):
        config.handed_over()


@pytest.mark.usefixtures("child")
def test_the_server_hands_it_on_with_the_descriptor_of_the_log(file):
    file.write(handover())
    assert config.relay(7) == handover()
    assert config.handed_over().log == 7


def test_a_disabled_sdk_sends_no_traces_and_is_kept_from_the_worker(file, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    found = handover()
    assert found.config.telemetry.otlp_endpoint is None
    file.write(found)
    assert config.read(flags=ECHO) == found.config  # as at a reload
    monkeypatch.setattr("os.getppid", os.getpid)
    config.relay(7)
    assert "OTEL_SDK_DISABLED" not in os.environ


def test_a_handover_is_for_the_children_of_who_left_it(file, monkeypatch):
    assert config.handed_over() is None
    file.write(handover())
    assert config.handed_over() is None
    monkeypatch.setattr("os.getppid", os.getpid)
    assert config.handed_over() == handover()
