"""The main process waits for no reader of what it prints."""

import os

from gateway.supervisor import console


def test_lines_are_printed(capfd):
    console.Console().print("one", "two")
    assert capfd.readouterr().err == "one\ntwo\n"


def test_a_full_pipe_is_left_alone_and_what_was_lost_is_told(monkeypatch):
    monkeypatch.setattr(console, "_SECONDS", 0.01)
    read_end, write_end = os.pipe()
    printer = console.Console(write_end)
    printer.print("x" * 2**17)
    printer.print("lost", "lost too")
    left = 2**17 + len("\n")
    while left:  # not while the thread lives: it lives for a moment after its last byte, and a read would wait for ever
        left -= len(os.read(read_end, left))
    printer._writing.join()
    monkeypatch.setattr(console, "_SECONDS", 60.0)
    printer.print("seen")
    text = b""
    while b"seen" not in text:
        text += os.read(read_end, 2**16)
    assert text.endswith(b"llm-gateway: 2 lines were lost: nothing read them in time\nseen\n")
    os.close(read_end)
    os.close(write_end)


def test_a_pipe_without_a_reader_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    console.Console(write_end).print("unheard")
    os.close(write_end)
