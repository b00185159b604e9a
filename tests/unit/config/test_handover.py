"""What the supervisor leaves for its children, and nobody else takes."""

import os

from gateway import config

ECHO = {config.PLAIN["ENGINE"]: "echo"}
PLACES = {"address": "127.0.0.1", "control": "/control"}


def test_what_is_handed_over_is_taken_over_whole(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    found = config.read(flags=ECHO | {"server.port": "1234"})
    config.hand_over(found, **PLACES)
    monkeypatch.setattr("os.getppid", os.getpid)
    assert config.handed_over().config == found


def test_a_disabled_sdk_sends_no_traces_and_is_kept_from_the_worker(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    found = config.read(flags=ECHO)
    assert found.telemetry.otlp_endpoint is None
    config.hand_over(found, **PLACES)
    assert config.read(flags=ECHO) == found  # as at a reload
    monkeypatch.setattr("os.getppid", os.getpid)
    config.relay(7)
    assert "OTEL_SDK_DISABLED" not in os.environ


def test_a_handover_is_for_the_children_of_who_left_it(monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_HANDOVER", "")
    assert config.handed_over() is None
    config.hand_over(config.read(flags=ECHO), **PLACES)
    assert config.handed_over() is None
    monkeypatch.setattr("os.getppid", os.getpid)
    found = config.handed_over()
    assert (found.giver, found.address, found.control) == (os.getpid(), "127.0.0.1", "/control")
