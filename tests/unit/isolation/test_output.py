"""What an engine's process writes becomes lines of the gateway's log."""

import logging

import pytest
from loguru import logger

from gateway.isolation.output import LineFormatter, Output


@pytest.fixture
def lines():
    found = []
    sink = logger.add(lambda message: found.append(message.record), format="{message}")
    yield found
    logger.remove(sink)


LOG = logger.bind(event="engine_output", engine="e")


def said(lines):
    return [(line["level"].name, line["message"]) for line in lines]


def written(level, text, **more):
    return (
        LineFormatter().format(logging.LogRecord("x", level, "f", 1, text, (), **{"exc_info": None, **more})).encode()
    )


def test_a_record_keeps_its_level_and_all_its_lines(lines):
    Output(LOG).feed(written(logging.WARNING, "one\ntwo {braces}") + b"\n")
    assert said(lines) == [("WARNING", "one\ntwo {braces}")]
    assert lines[0]["extra"] == {"event": "engine_output", "engine": "e"}


def test_a_record_keeps_its_traceback(lines):
    try:
        raise ValueError("why")  # noqa: TRY301 - it is the traceback that is wanted
    except ValueError as error:
        record = written(logging.ERROR, "failed", exc_info=(type(error), error, error.__traceback__))
    Output(LOG).feed(record + b"\n")
    assert "failed\nTraceback" in lines[0]["message"]
    assert "ValueError: why" in lines[0]["message"]


def test_what_is_printed_is_a_line_wherever_it_is_cut(lines):
    output = Output(LOG)
    for piece in (b"fir", b"st\nsec", b"ond\n\n", b"last \xff"):
        output.feed(piece)
    output.feed(b"")
    assert said(lines) == [("INFO", "first"), ("INFO", "second"), ("INFO", "last \N{REPLACEMENT CHARACTER}")]


def test_an_unknown_level_is_no_reason_to_lose_a_line(lines):
    Output(LOG).feed(written(17, "odd") + b"\n")
    assert [line["level"].name for line in lines] == ["INFO"]
    assert "odd" in lines[0]["message"]


def test_a_line_without_an_end_is_cut(lines):
    output = Output(LOG)
    for _ in range(64):
        output.feed(b"x" * 1024)
    assert {len(line["message"]) for line in lines} == {8192}
    assert len(output._rest) <= 8192


def test_a_line_that_names_no_level_has_the_one_that_was_given(lines):
    Output(LOG, "WARNING").feed(b"thread panicked\n" + written(logging.INFO, "fine") + b"\n")
    assert said(lines) == [("WARNING", "thread panicked"), ("INFO", "fine")]


def test_a_step_of_loading_keeps_its_progress(lines):
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "copying", "step": "copying", "progress": 0.25})
    Output(LOG).feed(LineFormatter().format(record).encode() + b"\n")
    assert said(lines) == [("INFO", "copying")]
    assert lines[0]["extra"] == {"event": "engine_output", "engine": "e", "step": "copying", "progress": 0.25}


def test_of_a_bar_that_a_library_prints_the_last_state_is_one_line(lines):
    bar = b"".join(b"\rfetching %d%%|%s|" % (share, b"#" * share) for share in range(101))
    Output(LOG).feed(bar + b"\n" + b"next\r\n")
    assert said(lines) == [("INFO", "fetching 100%|" + "#" * 100 + "|"), ("INFO", "next")]
