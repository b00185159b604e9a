"""`llm-gateway chat` and `llm-gateway models` against the real service."""

import os
import subprocess
import sys


def run(*arguments, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=os.environ | {"COLUMNS": "200"},
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
    assert "echo" in ended.stdout
    assert "4096" in ended.stdout
