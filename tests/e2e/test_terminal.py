"""`llm-gateway chat` and `llm-gateway models` against the real service."""

import os
import subprocess
import sys
import time

import pytest

from tests.support.screen import ALT_ENTER, CTRL_C, CTRL_D, ENTER, LEFT, UP, Terminal, paste
from tests.support.service import Service


def run(*arguments, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=os.environ | {"COLUMNS": "20"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_piped_conversation_is_answered_line_by_line(service):
    ended = run("chat", "--url", service.url, stdin="hello there\n\nhow are you?\n/exit\nnever said\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "hello there\nhow are you?\n"


def test_every_turn_sends_the_whole_conversation(service):
    before = service.metric("llm_gateway_prompt_tokens_total")
    assert run("chat", "--url", service.url, "--system", "be kind", stdin="one\ntwo\n").returncode == 0
    # be kind + one; be kind + one + one + two
    assert service.metric("llm_gateway_prompt_tokens_total") - before == 3 + 5


def test_what_the_gateway_refuses_is_one_line(service):
    ended = run("chat", "--url", service.url, "--model", "nope", stdin="hi\n")
    assert ended.returncode == 1
    assert ended.stderr == "llm-gateway: there is no model 'nope'; there is 'echo'\n"


def test_models_are_shown_in_a_table(service):
    ended = run("models", "--url", service.url)
    assert ended.returncode == 0
    names, values = (line.split() for line in ended.stdout.splitlines())
    assert names == ["model", "engine", "loaded", "context", "device", "dtype", "note"]
    assert (values[0], *values[2:4]) == ("echo", "yes", "4096")


def test_an_answer_that_did_not_end_by_itself_says_why(service):
    ended = run("chat", "--url", service.url, "--max-new-tokens", "2", stdin="one two three four\n")
    assert ended.stdout == "one two \n"
    assert ended.stderr == "(stopped: length)\n"


def test_what_a_model_writes_cannot_move_the_cursor(service):
    assert (
        run("chat", "--url", service.url, stdin="a\x1b[2Jb\x07\n").stdout
        == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}\n"
    )


@pytest.fixture
def chat():
    """Begin a chat on a terminal, and wait for its prompt; what is left of it is ended."""
    begun = []

    def begin(service):
        begun.append(Terminal("chat", "--url", service.url, PROMPT_TOOLKIT_NO_CPR="1"))
        begun[-1].wait_for(">")
        return begun[-1]

    yield begin
    for terminal in begun:
        terminal.kill()


def answered(terminal, *keys):
    """Say something; return what is answered."""
    terminal.clear()
    terminal.type("".join(keys) + ENTER)
    lines = terminal.wait_for_prompt()
    return "\n".join(line for line in lines if not line.startswith(">"))


@pytest.mark.parametrize("leave", [CTRL_C + CTRL_C, CTRL_D, "/exit" + ENTER])
def test_a_chat_says_who_answers_and_how_to_leave(service, chat, leave):
    terminal = chat(service)
    assert terminal.lines[0].startswith("echo; /exit leaves")
    terminal.type(leave)
    assert terminal.end() == 0


def test_arrow_keys_move_in_the_line_and_through_what_was_said(service, chat):
    terminal = chat(service)
    assert answered(terminal, "world", LEFT * 5, "hello ") == "hello world"
    assert answered(terminal, "other") == "other"
    assert answered(terminal, UP, UP) == "hello world"
    assert b"^[[" not in terminal.raw


def test_a_pasted_text_of_many_lines_is_one_turn(service, chat):
    terminal = chat(service)
    before = service.metric("llm_gateway_requests_total", endpoint="/v1/generate")
    answered(terminal, paste("one\ntwo\n\nthree"))
    assert service.metric("llm_gateway_requests_total", endpoint="/v1/generate") == before + 1
    assert "three" in terminal.lines[-2]


def test_alt_enter_begins_a_line_and_does_not_send(service, chat):
    terminal = chat(service)
    terminal.type("one" + ALT_ENTER + "two")
    assert terminal.wait_for("two")[-2:] == ["> one", "  two"]


def test_ctrl_c_after_an_answer_loses_nothing(service, chat):
    terminal = chat(service)
    answered(terminal, "one")
    terminal.type(CTRL_C)
    terminal.wait_for("Ctrl-C again")
    before = service.metric("llm_gateway_prompt_tokens_total")
    assert answered(terminal, "two") == "two"
    assert service.metric("llm_gateway_prompt_tokens_total") - before == 3  # one + one + two


def test_ctrl_c_clears_a_line_that_is_being_typed(service, chat):
    terminal = chat(service)
    terminal.type("nonsense")
    terminal.wait_for("nonsense")
    assert answered(terminal, CTRL_C, "sense") == "sense"


def test_an_error_leaves_the_chat_open_and_its_turn_out(chat):
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__CONTEXT_WINDOW="520") as service:
        terminal = chat(service)
        assert "llm-gateway: " in answered(terminal, "a b c d e f g h i j")
        assert answered(terminal, "one") == "one"
    terminal.type("two" + ENTER)
    terminal.wait_for("did not answer")
    terminal.type("/exit" + ENTER)
    assert terminal.end() == 0


def test_ctrl_c_stops_an_answer_and_keeps_the_chat(chat):
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.2") as service:
        terminal = chat(service)
        terminal.clear()
        terminal.type("word " * 300 + ENTER)
        terminal.wait_until(lambda lines: lines and lines[-1].startswith("word"))
        terminal.type(CTRL_C)
        terminal.wait_for("(stopped: Ctrl-C)")
        terminal.type("/exit" + ENTER)
        assert terminal.end() == 0
        until = time.monotonic() + 20
        while service.metric("llm_gateway_active_requests") and time.monotonic() < until:
            pass
        assert service.metric("llm_gateway_active_requests") == 0
