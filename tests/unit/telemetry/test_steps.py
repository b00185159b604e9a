"""Steps of loading where there is no terminal."""

import json
import logging

import pytest
from loguru import logger

from gateway.engine import loading_step
from gateway.telemetry import steps


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands where `clock[0]` says."""
    now = [0.0]
    monkeypatch.setattr(steps, "monotonic", lambda: now[0])
    return now


def messages(log):
    return [json.loads(line)["message"] for line in log.text().split("\n")[:-1]]


def test_a_long_step_is_a_line_at_both_ends_and_every_ten_seconds(log, clock):
    log.configure()
    for second in range(25):
        clock[0] = float(second)
        logger.bind(engine="e", step="copying", progress=second / 25).info("at {}", second)
    clock[0] = 25.0
    logger.bind(engine="e", step="copying", progress=1.0).info("done")
    assert messages(log) == ["at 0", "at 10", "at 20", "done"]


def test_a_short_step_is_one_line(log, clock):
    log.configure()
    logger.bind(engine="e", step="copying", progress=0.0).info("copying")
    clock[0] = 0.5
    logger.bind(engine="e", step="copying", progress=1.0).info("done")
    assert messages(log) == ["copying"]


def test_an_engine_that_is_replaced_begins_its_steps_anew(log, clock):
    log.configure()
    for _ in range(2):
        logger.bind(engine="e", step="copying", progress=0.0).info("copying")
        logger.bind(engine="e", event="engine_restart").error("died")
    assert messages(log) == ["copying", "died"] * 2


def test_other_lines_of_an_engine_leave_its_steps_alone(log, clock):
    log.configure()
    for progress in (0.0, 0.1):
        logger.bind(engine="e", step="copying", progress=progress).info("copying")
        logger.bind(engine="e", event="engine_output").info("hello")
    assert messages(log) == ["copying", "hello", "hello"]


def test_the_same_step_of_two_engines_is_two_steps(log, clock):
    log.configure()
    for engine in ("a", "b"):
        logger.bind(engine=engine, step="copying", progress=0.0).info("copying {}", engine)
    assert messages(log) == ["copying a", "copying b"]


def test_an_engine_in_this_process_tells_its_steps_too(log):
    log.configure()
    with loading_step(logging.getLogger("plugin"), "copying", "once"):
        pass
    (line,) = [json.loads(line) for line in log.text().split("\n")[:-1]]
    assert (line["message"], line["step"], line["progress"]) == ("copying (once)", "copying", 0.0)
