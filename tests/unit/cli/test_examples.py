"""The help of each command shows how it is called, and what it shows can be called."""

import shlex

import pytest

from gateway import config
from gateway.cli import main as cli
from gateway.cli.examples import EXAMPLES


def shown(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def every_command(parser=None, name=""):
    """Name the commands that the parser has, and their own."""
    parser = parser or cli._parser()
    yield name
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        for inner, its in action.choices.items():
            yield from every_command(its, f"{name} {inner}".strip())


def test_help_lists_the_flags_of_serve(capsys):
    text = shown(capsys)
    assert text.startswith("usage: llm-gateway [COMMAND] [FLAGS]\n")
    assert [flag for flag in ("--config", *config.FLAGS) if f"  {flag} " not in text] == []


def test_the_flags_that_help_lists_are_those_that_serve_takes(capsys):
    own = shown(capsys, "serve")
    assert [flag for flag in ("--config", *config.FLAGS) if f"  {flag} " not in own] == []


def test_every_command_has_examples():
    assert set(every_command()) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES, ids=str)
def test_help_ends_with_two_examples_that_the_command_line_takes(capsys, name):
    lines = shown(capsys, *name.split()).partition("\nexamples:\n")[2].splitlines()
    called = config.command().split()
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line)
        assert words[: len(called)] == called
        rest = words[len(called) :]
        assert rest[: len(name.split())] == name.split()
        assert cli._parser().parse_args(cli._command_first(rest)).run
