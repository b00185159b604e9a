"""Completions, as the shells ask for them."""

import os
import shutil
import subprocess
import sys

import pytest

from gateway.cli import main as cli
from gateway.cli.completion import print_completion


def completed(line):
    """Ask as the shells' code does: by variables, with descriptor 8 for the answer."""
    reading, writing = os.pipe()
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    shell = f"exec 8>&{writing} 9>/dev/null; exec '{sys.executable}' -m gateway"
    subprocess.run(["/bin/bash", "-c", shell], env=os.environ | asked, pass_fds=[writing], timeout=60, check=False)
    os.close(writing)
    with os.fdopen(reading) as answer:
        return {word.strip() for word in answer.read().split("\n") if word.strip()}


def test_commands_and_flags_are_completed():
    assert completed("llm-gateway c") == {"chat", "check", "cache", "conformance", "completion"}
    assert {"--json", "--interval", "--count", "--url"} <= completed("llm-gateway top --")
    assert completed("llm-gateway keys re") == {"revoke"}
    assert completed("llm-gateway completion ") == {"bash", "zsh", "fish"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_for_a_shell_is_one_that_it_takes(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "llm-gateway" in code
    if shutil.which(shell):
        ended = subprocess.run([shell, "-n"], input=code, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_a_shell_that_is_not_known_is_refused():
    with pytest.raises(SystemExit) as stopped:
        cli.main(["completion", "csh"])
    assert stopped.value.code == 2


def test_code_is_printed_and_nothing_else(capsys):
    assert print_completion("bash") == 0
    assert capsys.readouterr().err == ""
