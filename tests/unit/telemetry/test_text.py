"""What people read in a terminal or in a text file."""

import re
from datetime import datetime
from types import SimpleNamespace

import pytest

from gateway.telemetry.text import text_line

REQUEST = {
    "logger": "gateway.telemetry.middleware",
    "request_id": "01KDVXK0M4Q2E6S9ZB3H7TJN5R",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "model": "smollm2-135m-instruct",
    "event": "request",
    "method": "POST",
    "route": "/v1/chat/completions",
    "path": "/v1/chat/completions",
    "key_id": "k3f9a0c2d1",
    "status": 200,
    "outcome": "ok",
    "duration_ms": 38.912,
    "queue_ms": 0.4,
    "ttft_ms": 12.04,
    "prompt_tokens": 5,
    "tokens": 16,
    "finish_reason": "stop",
    "bytes": 412,
}


def line(message="POST /v1/chat/completions 200", trace="", *, is_terminal=True, is_colored=None, **fields):
    record = {
        "time": datetime(2026, 1, 2, 3, 4, 5, 678_000),  # noqa: DTZ001 - loguru's own knows the zone
        "level": SimpleNamespace(name="INFO"),
        "message": message,
    }
    is_colored = is_terminal if is_colored is None else is_colored
    text = text_line(record, {"logger": "gateway.x", **fields}, trace, is_terminal=is_terminal, is_colored=is_colored)
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def test_a_request_is_told_once_in_a_hundred_columns():
    told = line(**REQUEST)
    assert told == (
        "03:04:05.678 INFO    POST /v1/chat/completions 200 39 ms, 5+16 tokens, 01KDVXK0M4Q2E6S9ZB3H7TJN5R\n"
    )
    assert len(told) <= 101
    for word in ("POST", "/v1/chat/completions", "200"):
        assert told.count(word) == 1


def test_a_level_has_its_colour_where_the_terminal_may_have_some():
    record = {"time": datetime(2026, 1, 2, 3, 4, 5), "level": SimpleNamespace(name="INFO"), "message": "hello"}  # noqa: DTZ001 - as above
    for is_colored in (True, False):
        told = text_line(record, {"logger": "gateway.x"}, "", is_terminal=True, is_colored=is_colored)
        assert told.count("\x1b[32m") == is_colored
        assert told.count("\x1b") == 2 * is_colored


def test_where_there_is_room_a_request_says_more():
    told = line(**REQUEST | {"path": "/x", "model": "echo"})
    assert told.endswith("POST /x 200 39 ms, 5+16 tokens, first 12 ms, echo, 01KDVXK0M4Q2E6S9ZB3H7TJN5R\n")


def test_the_code_of_an_error_is_never_left_out():
    refused = REQUEST | {"status": 400, "outcome": "refused", "code": "context_length_exceeded"}
    assert "400 39 ms, context_length_exceeded" in line(**refused)
    broken = REQUEST | {"outcome": "aborted", "code": "engine_error"}
    assert "200 39 ms, aborted: engine_error" in line(**broken)


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("path", ["/" + "x" * 300, "/é/" + "\U0001f600" * 100, "/a\x1b[2K\n\u202eb", "/a b"])
@pytest.mark.parametrize("code", ["", "context_length_exceeded"])
def test_no_path_makes_the_line_longer(path, code, is_terminal):
    told = line(**REQUEST | {"path": path, "code": code, "model": "m" * 80}, is_terminal=is_terminal)
    assert len(told) <= 101
    assert told.isascii()
    assert told.count("\n") == 1
    assert code in told


def test_an_event_says_nothing_twice():
    told = line("tiny is ready after 1.5 s", event="loaded", engine="default", model="tiny")
    assert told == "03:04:05.678 INFO    tiny is ready after 1.5 s engine=default\n"


def test_a_librarys_line_names_its_logger():
    assert line("hello", logger="granian").endswith(" granian: hello\n")


def test_only_a_terminal_does_without_the_date():
    assert line("hello", is_terminal=False).startswith("2026-01-02 03:04:05.678 INFO    hello")


def test_the_lines_of_a_traceback_are_marked():
    assert line("failed", "a\nb\x1b\n").endswith("failed\n    | a\n    | b\\u001b\n")


@pytest.mark.parametrize(("milliseconds", "told"), [(0.42, "0.4 ms"), (42.6, "43 ms"), (75_040, "75.0 s")])
def test_a_duration_is_as_exact_as_it_needs_to_be(milliseconds, told):
    assert f" 200 {told}" in line(**REQUEST | {"duration_ms": milliseconds})


def test_a_field_is_left_out_only_where_the_message_has_it_as_a_word():
    assert line("hello", event="x", engine="e").endswith("hello engine=e\n")
    assert line("the engine 'e' left", event="x", engine="e").endswith("the engine 'e' left\n")
