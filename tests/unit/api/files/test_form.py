"""The form that brings a file: read in pieces of any size, within bounds, each fault named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.files.form import UploadReader
from gateway.api.http.problems import Problem

KNOWN = ("purpose",)


def part(name, content, filename=None):
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return b"--edge\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (disposition.encode(), content)


def form(*parts):
    return b"".join(parts) + b"--edge--\r\n"


PURPOSE = part("purpose", b"batch")


async def read(raw, size=7):
    written = []

    async def write(piece):
        written.append(piece)

    reader = UploadReader("edge", KNOWN, write)
    for start in range(0, len(raw), size):
        await reader.feed(raw[start : start + size])
    return reader.finish(), b"".join(written)


@given(st.binary(max_size=200).filter(lambda content: b"edge" not in content), st.integers(1, 300), st.booleans())
async def test_a_file_comes_as_it_was_sent_in_whatever_pieces(content, size, is_first):
    parts = [part("file", content, "a b.jsonl"), PURPOSE]
    found, written = await read(form(*parts[:: 1 if is_first else -1]), size)
    assert written == content
    assert (found.fields, found.filename) == ({"purpose": "batch"}, "a b.jsonl")


WRONG = {
    "no file": (form(PURPOSE), "invalid_value", "file"),
    "two files": (form(part("file", b"1", "a"), part("file", b"2", "b")), "invalid_value", "file"),
    "a text in place of a file": (form(part("file", b"1")), "invalid_value", "file"),
    "a field twice": (form(PURPOSE, PURPOSE, part("file", b"1", "a")), "invalid_value", "purpose"),
    "an unknown field": (form(part("color", b"red")), "unsupported_parameter", "color"),
    "a long field": (form(part("purpose", b"x" * 2_000)), "invalid_value", "purpose"),
    "a field that is no text": (form(part("purpose", b"\xff"), part("file", b"1", "a")), "invalid_value", None),
    "a form that breaks off": (PURPOSE, "invalid_value", None),
    "another boundary": (form(PURPOSE).replace(b"edge", b"egde"), "invalid_value", None),
    "no form at all": (b'{"purpose": "batch"}', "invalid_value", None),
    "nothing": (b"", "invalid_value", None),
    "very many parts": (form(*[part("purpose", b"")] * 20), "invalid_value", "purpose"),
    "a long head": (b"--edge\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", "invalid_value", None),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_with_a_form_is_told(name):
    raw, code, param = WRONG[name]
    with pytest.raises(Problem) as raised:
        await read(raw, 64)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.message
