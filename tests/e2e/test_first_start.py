"""The first start on a terminal: what it does as bars, then one panel with the addresses."""

import os
import re
import signal

import httpx
import psutil
import pytest

from tests.support.markdown import ROOT
from tests.support.observe import eventually
from tests.support.processes import worker
from tests.support.screen import CTRL_C, Terminal
from tests.support.service import free_port

SETTINGS = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
ENDS = "╰"


@pytest.fixture
def start():
    """Start the service on a terminal; what is left of it is ended."""
    begun = []

    def begin(**environment):
        port = free_port()
        begun.append(Terminal("--port", str(port), **{"ENGINE": "echo", "NO_COLOR": ""} | environment))
        begun[-1].url = f"http://127.0.0.1:{port}"
        return begun[-1]

    yield begin
    for terminal in begun:
        terminal.kill()


def rows(lines):
    """The rows of a panel, without its frame."""
    return [" ".join(line.strip("│╭╮╰╯─ ").split()) for line in lines if line.startswith(("╭", "│"))]


def test_the_front_page_shows_the_panel_as_it_is(start):
    block = (ROOT / "README.md").read_text().partition("```text\n╭─ LLM gateway")[2].partition("\n```")[0]
    told = rows(f"╭─ LLM gateway{block}".replace("http://127.0.0.1:8000", "URL").split("\n"))
    assert len(told) == 7
    terminal = start()
    shown = "\n".join(rows(terminal.wait_for(ENDS))).replace(terminal.url, "URL")
    # Another port than the usual one has the chat named with it; how the program is called is the caller's.
    assert re.sub(r"chat (uv run )?llm-gateway chat( --url URL)?", "chat", shown) == re.sub(
        r"chat uv run llm-gateway chat", "chat", "\n".join(told)
    )


def test_while_an_engine_loads_there_is_no_panel_and_ctrl_c_ends_it_cleanly(start):
    terminal = start(ENGINE="scripted", **{f"{SETTINGS}LOAD": "300"})
    terminal.wait_for(f"starts at {terminal.url}; Ctrl-C ends it")
    eventually(lambda: is_alive(terminal.url), 60)
    terminal.type(CTRL_C)
    assert terminal.end() == 0
    assert ENDS not in terminal.raw.decode()
    assert b"Traceback" not in terminal.raw
    assert b"\x1b[?25l" not in terminal.raw  # the cursor was never hidden


def is_alive(url):
    try:
        return httpx.get(f"{url}/livez", timeout=10).is_success
    except httpx.HTTPError:
        return False


def test_where_no_engine_loads_there_is_no_panel(start):
    terminal = start(ENGINE="scripted", **{f"{SETTINGS}LOAD_FAILURE": "there is no folder ./no-such-folder"})
    terminal.wait_for("no engine could be loaded")
    assert terminal.end() == 3
    assert ENDS not in terminal.raw.decode()


def test_another_worker_shows_no_other_panel(start):
    terminal = start()
    terminal.wait_for(ENDS)
    first = worker(terminal.pid)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: psutil.pid_exists(terminal.pid) and worker(terminal.pid) != first, 60)
    eventually(lambda: is_alive(terminal.url), 60)
    terminal.wait_for("ready", 60)
    assert terminal.raw.decode().count(ENDS) == 1


@pytest.mark.parametrize("why", [{"TERM": "dumb"}, {"LLM_GATEWAY__TELEMETRY__LOG_FORMAT": "json"}], ids=str)
def test_a_terminal_that_is_dumb_or_reads_json_gets_lines_at_once(start, why):
    terminal = start(**why)
    terminal.wait_for("Try it, in another terminal:")
    eventually(lambda: is_alive(terminal.url), 60)
    assert ENDS not in terminal.raw.decode()
    assert b"\x1b[" not in terminal.raw


def test_without_colours_a_panel_has_none(start):
    terminal = start(NO_COLOR="1")
    terminal.wait_for(ENDS)
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", terminal.raw)


@pytest.mark.slow
def test_the_built_in_model_shows_its_steps_and_then_the_panel(start, tmp_path):
    """Without kernels, whose building takes a minute: the conversion takes seconds."""
    terminal = start(ENGINE="hf", XDG_CACHE_HOME=str(tmp_path), **{f"{SETTINGS}KERNELS": "off"})
    terminal.wait_for("converting the weights", 120)
    terminal.wait_until(lambda lines: any("converting" in line and "━" in line for line in lines), 120)
    lines = terminal.wait_for(ENDS, 120)
    assert not any("━" in line or ("converting" in line and "INFO" in line) for line in lines)
