"""How an answer appears."""

import io
import re

import pyte
import pytest
from rich.console import Console

from gateway.cli.answer_view import MarkdownView, PlainView, view

TEXT = "# Title\n\nSome **bold** words\non two lines.\n\n- one\n- two\n\n```python\nx = 1\n```\n\nThe end."


@pytest.fixture
def terminal(monkeypatch):
    """A console that writes to a text as to a terminal of ten lines."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Console(file=io.StringIO(), force_terminal=True, width=40, height=10, highlight=False)


def shown(console, *pieces, plain=False):
    with view(console, is_plain=plain) as answer:
        for piece in pieces:
            answer.add(piece)
    return console.file.getvalue()


def lines(text):
    """The lines that a terminal shows in the end."""
    screen = pyte.Screen(40, 100)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display if line.strip()]


def test_markdown_is_drawn_and_keeps_the_line_breaks_of_the_model(terminal):
    text = shown(terminal, TEXT)
    assert "**" not in text
    assert "```" not in text
    found = lines(text)
    assert found.index("Some bold words") + 1 == found.index("on two lines.")
    assert " • one" in found
    assert found[-1] == "The end."


@pytest.mark.parametrize("size", [1, 7])
def test_pieces_are_drawn_as_the_whole_is(terminal, size):
    again = Console(file=io.StringIO(), force_terminal=True, width=40, height=10, highlight=False)
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert lines(shown(terminal, *pieces)) == lines(shown(again, TEXT))


def test_a_finished_block_is_drawn_once(terminal):
    text = shown(terminal, "first\n\n", *["word "] * 50, "\n\n", *["last "] * 50)
    assert lines(text).count("first") == 1


def test_of_a_block_that_grows_beyond_the_terminal_its_end_is_drawn(terminal):
    answer = MarkdownView(terminal)
    answer.add("\n".join(f"line {number}  " for number in range(40)))
    terminal.print(answer._live.get_renderable())
    found = lines(terminal.file.getvalue())
    assert (len(found), found[-1]) == (8, "line 39")


def test_a_link_shows_where_it_leads_and_no_control_character_comes_through(terminal):
    text = shown(terminal, "[safe](http://evil.example) \x1b]8;;x\x07 \x1b[2J")
    assert "http://evil.example" in text
    assert "\x1b]8" not in text
    assert "\x1b[2J" not in text


def test_without_colours_there_are_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=40, height=10), TEXT)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


@pytest.mark.parametrize("why", ["plain", "pipe", "dumb"])
def test_elsewhere_the_text_is_as_it_is(monkeypatch, why):
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    console = Console(file=io.StringIO(), force_terminal=why != "pipe", width=40)
    assert isinstance(view(console, is_plain=why == "plain"), PlainView)
    assert shown(console, "**a**\n", "b", plain=why == "plain") == "**a**\nb\n"
