"""What a start says of the service."""

import os
import pty

import pytest

from gateway import config
from gateway.supervisor import greeting
from gateway.supervisor.greeting import Greeting, panel

PAGES = ("/v1", "/", "/schema", "/v1/health")


class Out:
    """Keeps what is printed."""

    def __init__(self):
        self.lines = []

    def print(self, *lines):
        self.lines += lines


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in the place of standard output and standard error."""
    monkeypatch.setenv("TERM", "xterm")
    own, other = pty.openpty()
    monkeypatch.setattr(greeting, "_STDOUT", other)
    monkeypatch.setattr(greeting, "_STDERR", other)
    yield
    os.close(own)
    os.close(other)


def said(settings=None):
    out = Out()
    greets = Greeting(config.Config() if settings is None else settings, out)
    greets.begin()
    before = list(out.lines)
    greets.settle()
    greets.settle()
    return before, out.lines[len(before) :]


def test_without_a_terminal_all_is_said_at_once(monkeypatch, tmp_path):
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(greeting, "_STDERR", file.fileno())
        before, after = said()
    assert [f"http://127.0.0.1:8000{page}" for page in PAGES] == [line.split()[1] for line in before[1:5]]
    assert after == []


def test_on_a_terminal_a_line_comes_first_and_one_panel_when_the_models_are_loaded(terminal):
    before, after = said()
    assert len(before) == len(after) == 1
    assert "http://127.0.0.1:8000" in before[0]
    for page in (*PAGES, "/metrics"):
        assert f"http://127.0.0.1:8000{page} " in after[0]


@pytest.mark.parametrize("why", ["dumb", "json"])
def test_a_dumb_terminal_or_one_with_a_log_for_programs_gets_lines_at_once(terminal, monkeypatch, why):
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    telemetry = config.TelemetrySettings(log_format="json" if why == "json" else "auto")
    before, after = said(config.Config(telemetry=telemetry))
    assert len(before) > 5
    assert after == []


def test_what_is_turned_off_is_not_in_the_panel():
    settings = config.Config(
        server=config.ServerSettings(docs=False, playground=False, port=9),
        telemetry=config.TelemetrySettings(metrics_enabled=False),
    )
    drawn = panel(settings, 80)
    assert "metrics" not in drawn
    assert "docs" not in drawn
    assert "page" not in drawn
    assert "chat --url http://127.0.0.1:9" in drawn


def test_a_panel_fits_its_terminal_and_has_no_colours_where_none_are_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = panel(config.Config(), 50)
    assert max(map(len, drawn.split("\n"))) <= 50 + len("\x1b[1m\x1b[0m") * 2
    assert "\x1b[32m" not in drawn
