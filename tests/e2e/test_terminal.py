"""`llm-gateway chat` and `llm-gateway models` against the real service."""

import os
import pty
import select
import subprocess
import sys
import time

import psutil
import pytest

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


class Terminal:
    """A command on a terminal of its own, read as it comes."""

    def __init__(self, *arguments):
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            words = [sys.executable, "-m", "gateway", *arguments]
            os.execve(sys.executable, words, os.environ | {"TERM": "dumb"})  # noqa: S606 - no shell is wanted
        self.shown = ""

    def wait_for(self, text):
        """Read until `text` comes; return what came up to its end."""
        until = time.monotonic() + 30
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            if select.select([self._fd], [], [], 0.1)[0]:
                self.shown += os.read(self._fd, 4096).decode()
        seen, _, self.shown = self.shown.partition(text)
        return seen + text

    def type(self, text):
        os.write(self._fd, text.encode())

    def wait_until_read(self):
        """Wait until it sleeps over its input: Python sees a Ctrl-C of the moment before only with the next line."""
        process, until = psutil.Process(self.pid), time.monotonic() + 30
        while process.status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < until

    def end(self):
        ended, until = (0, 0), time.monotonic() + 30
        while not ended[0]:
            assert time.monotonic() < until, "the command goes on"
            ended = os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0.01)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(ended[1])


CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.mark.parametrize("leave", [CTRL_C, CTRL_D, "/exit\n"])
def test_a_chat_says_who_answers_and_how_to_leave(service, leave):
    terminal = Terminal("chat", "--url", service.url)
    assert terminal.wait_for("> ").strip().startswith("echo; /exit leaves")
    terminal.wait_until_read()
    terminal.type(leave)
    assert terminal.end() == 0


def test_ctrl_c_stops_an_answer_and_keeps_the_chat():
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.2") as service:
        terminal = Terminal("chat", "--url", service.url)
        terminal.wait_for("> ")
        terminal.type("on and on " * 300 + "\n")
        terminal.wait_for("\non ")
        terminal.type(CTRL_C)
        terminal.wait_for("(stopped: Ctrl-C)")
        terminal.wait_for("> ")
        terminal.type("/exit\n")
        assert terminal.end() == 0
        until = time.monotonic() + 20
        while service.metric("llm_gateway_active_requests") and time.monotonic() < until:
            pass
        assert service.metric("llm_gateway_active_requests") == 0
