"""Steps of loading on a terminal."""

import os
import pty
import re

import pytest
from loguru import logger

from gateway.config import TelemetrySettings
from gateway.telemetry import bars, logs
from tests.support.screen import Screen


@pytest.fixture
def screen(standard_logging, monkeypatch):
    """The screen of a terminal that the log goes to."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    own, other = pty.openpty()
    shown = Screen(own)
    shown.other = other
    shown.sink = logs.configure(TelemetrySettings(), other)
    yield shown
    logger.remove()
    os.close(own)
    os.close(other)


def tell(progress, text, engine="e", step="copying"):
    logger.bind(event="engine_output", engine=engine, step=step, progress=progress).info("{}", text)


def test_a_step_is_a_bar_that_grows_below_the_lines(screen):
    tell(0.0, "copying (once, about 3 s)")
    (bar,) = screen.wait_for("copying (once, about 3 s)")
    assert "%" not in bar
    logger.bind(engine="e", event="engine_output").info("hello")
    tell(0.42, "copying: 42 %")
    line, bar = screen.wait_for("42%")
    assert line.endswith("hello engine=e")
    assert "copying (once, about 3 s)" in bar


def test_at_its_end_a_bar_leaves_what_it_took_and_no_line_of_the_log(screen, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(bars, "monotonic", lambda: now[0])
    tell(0.0, "copying")
    screen.wait_for("copying")
    now[0] = 2.0
    tell(1.0, "copying: done after 2.0 s")
    (line,) = screen.wait_for("done after 2.0 s")
    assert line == "  copying: done after 2.0 s"
    logger.info("next")
    assert screen.wait_for("next")[0] == line


def test_a_short_step_leaves_nothing_behind(screen):
    tell(0.0, "copying")
    screen.wait_for("copying")
    tell(1.0, "copying: done after 0.1 s")
    logger.info("next")
    (line,) = screen.wait_for("next")
    assert line.endswith("next")


def test_an_engine_that_is_ready_has_no_bars(screen):
    tell(0.0, "copying")
    tell(0.0, "copying too", engine="other")
    screen.wait_for("copying too")
    logger.bind(engine="e", event="loaded").info("tiny is ready")
    screen.wait_for("tiny is ready")
    tell(0.5, "", engine="other")
    line, bar = screen.wait_for("50%")
    assert "ready" in line
    assert "copying too" in bar


def test_closing_takes_the_bars_off_the_screen_and_the_cursor_was_never_hidden(screen):
    tell(0.0, "copying")
    screen.wait_for("copying")
    screen.sink.close(5.0)
    assert screen.lines == []
    assert b"\x1b[?25l" not in screen.raw


def test_what_a_plugin_calls_its_step_cannot_move_the_cursor(screen):
    tell(0.0, "cop\x1b[2Jying [red]")
    (bar,) = screen.wait_for("ying [red]")
    assert "cop\\u001b[2Jying [red]" in bar


def test_a_terminal_that_cannot_write_over_a_line_gets_lines(screen, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    tell(0.0, "copying")
    (line,) = screen.wait_for("copying")
    assert "INFO" in line


def test_without_colours_there_are_bars_in_none(screen, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen.sink = logs.configure(TelemetrySettings(), screen.other)
    logger.warning("hello")
    tell(0.3, "copying")
    screen.wait_for("30%")
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", screen.raw)


def test_a_secret_in_the_name_of_a_step_is_hidden(screen):
    tell(0.0, "fetching hf_0123456789abcdef")
    (bar,) = screen.wait_for("fetching")
    assert "hf_***" in bar


def test_a_terminal_that_does_not_say_its_size_is_a_terminal(standard_logging, monkeypatch):
    monkeypatch.setattr(logs.os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    own, other = pty.openpty()
    logs.configure(TelemetrySettings(), other)
    logger.info("hello")
    assert Screen(own).wait_for("hello")[0].endswith("hello")
    logger.remove()
    os.close(own)
    os.close(other)
