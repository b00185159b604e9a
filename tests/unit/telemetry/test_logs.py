import json
import logging
import os
import re
import sys
import threading
import warnings
from datetime import datetime

import pytest
from loguru import logger
from opentelemetry.trace import NonRecordingSpan, SpanContext

from gateway.config import TelemetrySettings
from gateway.telemetry import logs, request_id
from gateway.telemetry.context import open_record

FORGERIES = [
    "\n", "\r\n", "\r", "\x1b[2K\x1b[1A", "\x00", "\x07", "\x08", "\x0b", "\x0c", "\x1c", "\x85", "\x9b31m", "\x7f",
    "\u2028", "\u2029", "\u202e", "\ud800", '"}\n{"level":"INFO"', "{0} {name}", "<red>", "%s", "\\n",
]  # fmt: skip


def fail(prompt, message="failed"):
    """Log an exception that was raised where `prompt` is at hand."""

    def inner(prompt):
        raise ValueError(message)

    try:
        inner(prompt)
    except ValueError:
        logger.exception("failed")


def json_lines(log):
    return [json.loads(line) for line in log.text().split("\n")[:-1]]


def test_a_line_is_one_object_with_utc_time_level_message_and_logger(log):
    log.configure()
    logger.info("hello")
    (line,) = json_lines(log)
    assert list(line)[:3] == ["time", "level", "message"]
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0
    assert (line["level"], line["message"], line["logger"]) == ("INFO", "hello", __name__)


def test_the_context_names_request_trace_and_model(log):
    log.configure()
    token = request_id.set("01JREQUEST")
    record = open_record(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=True)))
    record.model = "tiny"
    logger.bind(request_id="forged", duration_ms=1.5, path="/x").info("hello")
    (line,) = json_lines(log)
    assert (line["request_id"], line["trace_id"], line["model"]) == ("01JREQUEST", f"{0xABC:032x}", "tiny")
    assert (line["duration_ms"], line["path"]) == (1.5, "/x")
    request_id.reset(token)


def test_a_caller_cannot_replace_what_the_line_says_itself(log):
    log.configure()
    logger.bind(time="never", level="NONE", message="other").info("hello")
    (line,) = json_lines(log)
    assert (line["level"], line["message"]) == ("INFO", "hello")
    assert line["time"] != "never"


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_text_forges_or_breaks_a_line(log, log_format, forgery):
    log.configure(log_format=log_format)
    logger.bind(path=f"a{forgery}b", **{f"key{forgery}": 1}).info("{}", f"x{forgery}y")
    logging.getLogger(f"library{forgery}").warning("%s", f"x{forgery}y")
    text = log.text()
    assert text.count("\n") == 2
    assert len(text.splitlines()) == 2  # which splits at every separator that Unicode knows
    assert all(character == "\n" or 0x20 <= ord(character) < 0x7F for character in text)
    if log_format == "json":
        line = json.loads(text.split("\n")[0])
        assert (line["message"], line["path"]) == (f"x{forgery}y", f"a{forgery}b")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**30, object(), {"a": 1}, None, True, b"\n"])
def test_any_value_makes_valid_json(log, value):
    log.configure()
    logger.bind(value=value).info("hello")
    (line,) = log.text().split("\n")[:-1]
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_an_exception_is_one_field_without_the_values_of_variables(log):
    log.configure()
    fail(prompt=f"CAN{2}ARY")
    (line,) = json_lines(log)
    assert "Traceback" in line["exception"]
    assert "ValueError: failed" in line["exception"]
    assert "CAN2ARY" not in line["exception"]


def test_in_text_the_lines_of_an_exception_are_marked_and_cannot_forge(log):
    log.configure(log_format="text")
    fail("", "x\n2026-01-01 00:00:00.000 INFO     forged: line\x1b[2K")
    first, *rest = log.text().split("\n")[:-1]
    assert "failed" in first
    assert all(line.startswith("    | ") for line in rest)
    assert "\x1b" not in log.text()


@pytest.mark.parametrize("name", ["_granian", "granian.access", "litestar", "transformers", "gateway_hf"])
def test_standard_loggers_come_under_their_own_names(log, name):
    own = logging.getLogger(name)
    own.addHandler(logging.StreamHandler(sys.stderr))
    own.propagate = False
    log.configure()
    own.warning("from %s", name)
    (line,) = json_lines(log)
    assert (line["logger"], line["message"], line["level"]) == (name, f"from {name}", "WARNING")


def test_a_logger_that_sets_itself_up_later_is_caught_again(log):
    log.configure()
    late = logging.getLogger("late")
    late.addHandler(logging.StreamHandler(sys.stderr))
    late.propagate = False
    logs.capture()
    late.error("caught")
    assert [line["message"] for line in json_lines(log)] == ["caught"]


def test_warnings_are_caught(log):
    log.configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)  # the context above put its own recorder in
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = json_lines(log)
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in line["message"]


def test_arguments_that_do_not_fit_still_make_a_line(log):
    log.configure()
    logging.getLogger("library").warning("%d apples", "no")
    assert [line["message"] for line in json_lines(log)] == ["%d apples"]


@pytest.mark.parametrize(("level", "seen"), [("DEBUG", 4), ("INFO", 2), ("WARNING", 0)])
def test_the_level_holds_for_both_kinds_of_logger(log, level, seen):
    log.configure(log_level=level)
    logger.debug("a")
    logger.info("b")
    logging.getLogger("library").debug("c")
    logging.getLogger("library").info("d")
    assert len(json_lines(log)) == seen


def test_auto_is_json_where_there_is_no_terminal(log):
    log.configure(log_format="auto")
    logger.info("hello")
    assert json_lines(log)[0]["message"] == "hello"


def test_text_is_readable(log):
    log.configure(log_format="text")
    logger.bind(status=200, path="a b").info("hello")
    line = log.text()
    assert f'INFO    {__name__}: hello status=200 path="a b"\n' in line


def test_a_failing_exporter_complains_once(log):
    log.configure()
    for _ in range(100):
        logging.getLogger("opentelemetry.exporter.x").error("collector away")
    assert sum(line["message"] == "collector away" for line in json_lines(log)) <= 1


def test_threads_log_too(log):
    log.configure()
    threads = [threading.Thread(target=logger.info, args=(f"from {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line["message"] for line in json_lines(log)} == {f"from {n}" for n in range(8)}


def test_lines_that_were_lost_are_a_line_as_soon_as_one_can_be_written(standard_logging):
    read_end, write_end = os.pipe()
    sink = logs.configure(TelemetrySettings(log_format="json"), write_end)
    while not sink.dropped:
        logger.info("x" * 500)
    text = b""
    while b'"log_lost"' not in text:
        text += os.read(read_end, 2**16)
    line = json.loads(next(line for line in text.splitlines() if b'"log_lost"' in line))
    assert line["level"] == "WARNING"
    assert line["lines"] >= 1
    assert line["message"].startswith(f"{line['lines']} lines of the log were lost")
    os.close(read_end)
    logger.remove()
    os.close(write_end)


EVENT = {"event": "request", "path": "/x", "status": 200, "duration_ms": 1.5, "code": None, "odd": float("nan")}


@pytest.mark.parametrize("settings", [{}, {"log_format": "text"}])
@pytest.mark.parametrize("text", [*FORGERIES, "llmg_secret123", "sk-abcdefghij"])
def test_an_event_is_the_line_that_loguru_would_write(log, settings, text):
    fields = EVENT | {"event": "other", "path": text}
    sink = log.configure(**settings)
    token = request_id.set("01JREQUEST")
    sink.write_event("some.logger", "WARNING", f"{text} {{}}", fields)
    logger.bind(logger="some.logger", **fields).warning("{}", f"{text} {{}}")
    request_id.reset(token)
    own, logurus = [re.sub(r"\d\d:\d\d:\d\d\.\d+", "", line) for line in log.text().split("\n")[:-1]]
    assert own == logurus
    assert "01JREQUEST" in own


def test_an_event_below_the_level_is_no_line(log):
    sink = log.configure(log_level="WARNING")
    sink.write_event("some.logger", "INFO", "left out", EVENT)
    sink.write_event("some.logger", "WARNING", "written", EVENT)
    assert [line["message"] for line in json_lines(log)] == ["written"]


def test_an_event_goes_where_the_log_goes_now(log):
    first = log.configure()
    log.configure()
    first.write_event("some.logger", "INFO", "hello", EVENT)
    assert [line["message"] for line in json_lines(log)] == ["hello"]
