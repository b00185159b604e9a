"""The command line without a service."""

import subprocess
import sys

import pytest

from gateway import __version__, cli


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINE", "echo")


def test_check_says_that_all_is_well(capsys):
    assert cli.main(["check"]) == 0
    assert "the configuration is right" in capsys.readouterr().out


def test_check_shows_warnings(capsys, monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")
    assert cli.main(["check"]) == 0
    assert "warning: DEVICE is ignored" in capsys.readouterr().out


def test_check_says_what_is_wrong_where(capsys, tmp_path):
    (tmp_path / "bad.toml").write_text("[server]\nport = -1\n")
    assert cli.main(["check", "--config", "bad.toml"]) == 2
    assert capsys.readouterr().err == "llm-gateway: bad.toml: server.port: expected `int` >= 1\n"


def test_flags_win(capsys, monkeypatch):
    monkeypatch.setenv("PORT", "1000")
    cli.main(["check", "--port", "2000"])
    assert ":2000" in capsys.readouterr().out


def test_engines_lists_what_is_installed_and_used(capsys):
    assert cli.main(["engines"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["echo"].endswith("serves as default")
    assert lines["hf"].endswith("installed")


def test_an_unknown_command_or_flag_is_wrong_usage():
    for words in (["dance"], ["serve", "--nope"], ["--nope"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2


def test_version_is_the_distributions(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"llm-gateway {__version__}\n"


def test_help_imports_neither_torch_nor_litestar():
    code = "import sys; sys.argv = ['x', '--help']\n"
    code += "try:\n    import runpy; runpy.run_module('gateway', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'litestar', 'granian', 'transformers'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert "serve" in ended.stdout


def test_models_and_chat_say_in_one_line_that_nobody_answers(capsys):
    for command in ("models", "chat"):
        assert cli.main([command, "--url", "http://127.0.0.1:9"]) == 1
        assert capsys.readouterr().err.count("\n") == 1
