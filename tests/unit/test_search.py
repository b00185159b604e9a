"""A search for faults ends within its time, whatever the program that searches does."""

import sys
import time
from types import SimpleNamespace

import pytest

from tests.attack.search import _server_errors, end_by_itself
from tests.fuzz.__main__ import _send_all, _Told
from tests.fuzz.bodies import Operation

WAITS = "import time; print('began', flush=True); time.sleep(60)"
# What runs in a shell's background ignores interrupts, and so does all that it starts.
LISTENS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
REPORTS = f"{LISTENS}\ntry:\n    {WAITS}\nexcept KeyboardInterrupt:\n    print('reported')"
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {WAITS}"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output.txt"


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]  # which starts at once


def test_a_search_that_ends_is_left_alone(output):
    assert end_by_itself(python("print('done')"), output, 60)
    assert output.read_text() == "done\n"


def test_a_search_that_goes_on_is_ended_after_its_report(output):
    assert not end_by_itself(python(REPORTS), output, 2)
    assert output.read_text() == "began\nreported\n"


def test_a_search_that_does_not_listen_is_killed(output, monkeypatch):
    monkeypatch.setattr("tests.attack.search._REPORT_SECONDS", 0.1)
    assert not end_by_itself(python(DEAF), output, 1)
    assert output.read_text() == "began\n"


def test_the_torn_end_of_a_report_is_passed_over():
    whole = '{"request": {"method": "GET", "uri": "http://a/b"}, "response": {"status_code": 500}}\n'
    assert _server_errors(whole + whole[:20]) == (1, ["500 GET /b None"])


@pytest.mark.parametrize("seconds", [-1, 0.2])
def test_drawing_ends_with_its_time_however_many_examples_are_asked_for(seconds):
    client = SimpleNamespace(request=lambda *_, **__: SimpleNamespace(status_code=200, text=""))
    told = _Told(time.monotonic() + seconds)
    _send_all(client, Operation("POST", "/{name}", ("model", "prompt")), 10**9, 1, told)
    assert told.faults == []
    assert told.statuses.total() >= 1
