"""`llm-gateway chat`, `models`, `requests` and `top` against the real service."""

import json
import os
import re
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
    return "\n".join(line for line in lines if not line.startswith((">", "(")))


@pytest.mark.parametrize("leave", [CTRL_C + CTRL_C, CTRL_D, "/exit" + ENTER])
def test_a_chat_says_who_answers_and_how_to_leave(service, chat, leave):
    terminal = chat(service)
    assert terminal.lines[0].startswith("echo; /exit leaves, /help shows more")
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
    assert terminal.lines[-3] == "three"


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


def test_models_and_requests_are_listed_as_json(service):
    (model,) = json.loads(run("models", "--url", service.url, "--json").stdout)
    assert (model["id"], model["status"]) == ("echo", "loaded")
    assert json.loads(run("requests", "--url", service.url, "--json").stdout) == []


def test_an_answer_is_drawn_as_markdown_and_says_how_fast_it_came(service, chat):
    terminal = chat(service)
    assert answered(terminal, "some **bold** words") == "some bold words"
    assert re.search(r"^\(\d+ tokens, [\d.]+ tokens/s, the first after [\d.]+ s\)$", terminal.lines[-2])
    assert b"\x1b[1mbold\x1b[0m" in terminal.raw


def test_without_colours_or_on_a_dumb_terminal_a_chat_is_plain(service):
    terminal = Terminal("chat", "--url", service.url, TERM="dumb", NO_COLOR="1")
    try:
        terminal.wait_for(">")
        terminal.type("some **bold** words" + ENTER)
        terminal.wait_until(lambda lines: any(line.startswith("some **bold** words") for line in lines))
        terminal.wait_for("tokens/s")
        assert b"\x1b[3" not in terminal.raw
        terminal.type("/exit" + ENTER)
        assert terminal.end() == 0
    finally:
        terminal.kill()


def test_commands_of_a_chat_change_what_is_asked_and_save_what_was_said(service, chat, tmp_path):
    terminal = chat(service)
    assert "/save FILE" in answered(terminal, "/help")
    answered(terminal, "/set nonsense 1")
    assert "no parameter nonsense" in answered(terminal, "one two three")
    assert answered(terminal, "one two three") == "one two three"
    answered(terminal, "/reset")
    assert answered(terminal, "/set max_new_tokens 2") == "max_new_tokens = 2"
    assert answered(terminal, "/system be kind") == "be kind"
    assert answered(terminal, "one two three") == "one two"
    assert answered(terminal, f"/save {tmp_path}/it.json").startswith("saved as")
    saved = json.loads((tmp_path / "it.json").read_text())
    assert saved["max_new_tokens"] == 2
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]
    assert "no model 'nope'" in answered(terminal, "/model nope")


def test_a_history_file_is_read_by_the_next_chat_and_by_nobody_else(service, tmp_path):
    file = tmp_path / "history"
    file.touch(mode=0o644)
    for keys in ("remember me" + ENTER, UP):
        terminal = Terminal("chat", "--url", service.url, "--history", str(file), PROMPT_TOOLKIT_NO_CPR="1")
        try:
            terminal.wait_for(">")
            terminal.type(keys)
            terminal.wait_for("tokens/s" if ENTER in keys else "> remember me")
        finally:
            terminal.kill()
    assert file.stat().st_mode & 0o077 == 0


@pytest.fixture
def slow():
    """A service that writes a word every fifth of a second."""
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.2") as service:
        yield service


def test_requests_are_listed_while_they_run_and_ended_by_their_id(slow):
    body = {"prompt": "on and on ", "ignore_eos": True, "stream": True, "max_new_tokens": 3000}
    with slow.client.stream("POST", "/v1/generate", json=body) as answer:
        own = answer.headers["x-request-id"]
        lines = answer.iter_lines()
        next(lines)
        names, values = (line.split() for line in run("requests", "--url", slow.url).stdout.splitlines())
        assert names[:3] == ["id", "model", "phase"]
        assert values[:3] == [own, "echo", "decode"]
        looks = run("top", "--url", slow.url, "--json", "--count", "2", "--interval", "1").stdout.splitlines()
        assert [json.loads(look)["requests"][0]["id"] for look in looks] == [own, own]
        assert json.loads(looks[1])["rates"]["tokens"] > 0
        ended = run("requests", "--url", slow.url, "--cancel", own)
        assert (ended.returncode, ended.stdout) == (0, f"{own} is ended\n")
        assert "cancelled" in "".join(lines)
    missing = run("requests", "--url", slow.url, "--cancel", own)
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("leave", ["q", CTRL_C])
def test_top_shows_a_gateway_until_it_is_left_and_lives_through_its_absence(leave):
    with Service() as service:
        terminal = Terminal("top", "--url", service.url, "--interval", "1")
        try:
            terminal.wait_for("requests/s")
            lines = terminal.lines
            assert service.url in lines[0]
            assert any(line.split()[:3] == ["default", "echo", "ready"] for line in lines)
            service.process.terminate()
            terminal.wait_for("it does not answer since")
            terminal.type(leave)
            assert terminal.end() == 0
            assert terminal.raw.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in terminal.raw[-200:]
        finally:
            terminal.kill()


def test_top_through_a_pipe_is_one_look(service):
    ended = run("top", "--url", service.url, "--interval", "1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "requests/s" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_top_says_what_a_key_may_not_see():
    with Service(METRICS_ENABLED="false") as service:
        ended = run("top", "--url", service.url, "--interval", "1")
        assert ended.returncode == 0
        assert "no rates and no memory: its metrics are turned off" in " ".join(ended.stdout.split())
