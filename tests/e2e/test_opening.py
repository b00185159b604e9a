"""The real command does not open what should be shut: exit code 2, and one line that says what to do."""

import os
import subprocess
import sys

import pytest

from gateway.auth import KeyFile
from tests.support.service import Service, free_port

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tried here is that nobody listens on it


def run(tmp_path, *words, **settings):
    """Run the command in an empty folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLM_GATEWAY")}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env=inherited | {"ENGINE": "echo", "PORT": str(free_port())} | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(ended):
    """The one line of a command that was refused."""
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert ended.stderr.count("\n") == 1
    return ended.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_without_a_key_it_does_not_serve_beyond_the_loopback(tmp_path, command):
    line = refused(run(tmp_path, command, HOST=EVERYWHERE))
    assert line.startswith("llm-gateway: HOST in the environment: server.host: there is no key, ")
    assert "keys create NAME" in line
    assert "--insecure-no-auth" in line


def test_keys_that_cannot_be_read_are_named_with_their_path(tmp_path):
    path = {"LLM_GATEWAY__AUTH__FILE": "keys.db"}
    assert "there is no key in keys.db yet" in refused(run(tmp_path, "serve", **path))
    KeyFile(tmp_path / "keys.db").create("me")
    (tmp_path / "keys.db").chmod(0o644)
    assert "keys.db: its mode is 0644, so others may read it" in refused(run(tmp_path, "serve", **path))
    (tmp_path / "keys.db").chmod(0o600)
    (tmp_path / "keys.db").write_bytes(b"x" * 5_000)
    assert "keys.db: file is not a database" in refused(run(tmp_path, "serve", **path))


def test_a_key_that_the_command_makes_is_alone_on_standard_output(tmp_path):
    made = run(tmp_path, "keys", "create", "me", "--file", "keys.db")
    assert made.returncode == 0
    assert made.stdout.startswith("llmg_")
    assert made.stdout.count("\n") == 1
    assert made.stdout.strip() not in made.stderr
    assert refused(run(tmp_path, "keys", "create", "me", "--file", "keys.db")).endswith("named 'me' already\n")
    line = run(tmp_path, "check", HOST=EVERYWHERE, LLM_GATEWAY__AUTH__FILE="keys.db")
    assert (line.returncode, line.stderr) == (0, "")


def test_the_flag_opens_it_all_the_same():
    with Service("--insecure-no-auth", HOST=EVERYWHERE) as service:
        assert service.generate(prompt="a").status_code == 200
