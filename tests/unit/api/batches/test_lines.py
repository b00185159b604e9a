"""The lines of a batch's file: read whole, numbered, and checked, each fault with its line."""

import json
import os

import pytest

from gateway.api.batches.lines import BatchLine, LineCheck, custom_id_of, read_lines
from gateway.api.http.problems import Problem

ENDPOINT = "/v1/chat/completions"


def line(number=1, **changes):
    fields = {"custom_id": f"r{number}", "method": "POST", "url": ENDPOINT, "body": {"model": "m"}} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def check_body(raw):
    body = json.loads(raw)
    if "bad" in body:
        raise Problem("unsupported_parameter", "bad: not here", param="bad")
    return body.get("model")


def checked(*raws, most=100):
    check = LineCheck(ENDPOINT, most, check_body)
    check.see([BatchLine(number, raw) for number, raw in enumerate(raws, 1)])
    check.finish()
    return check


async def lines_of(tmp_path, content, most=100):
    path = tmp_path / "lines"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    return [found async for lines in read_lines(descriptor, most) for found in lines]


async def test_lines_are_numbered_as_an_editor_does_and_blank_ones_left_out(tmp_path):
    found = await lines_of(tmp_path, b"one\n\n  \r\ntwo\r\nthree")
    assert [(each.number, each.raw.strip()) for each in found] == [(1, b"one"), (4, b"two"), (5, b"three")]
    assert await lines_of(tmp_path, b"") == []


async def test_a_line_that_is_too_long_is_known_for_it_and_the_next_one_is_whole(tmp_path):
    found = await lines_of(tmp_path, b"a" * 700_000 + b"\nshort\n" + b"b" * 101)
    assert [(each.number, each.raw) for each in found] == [(1, None), (2, b"short\n"), (3, None)]


async def test_many_lines_come_in_several_pieces(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"%d" % number + b" " * 90 + b"\n" for number in range(1, 10_001)))
    pieces = [lines async for lines in read_lines(os.open(path, os.O_RDONLY), 100)]
    assert len(pieces) > 2
    assert [int(each.raw) for lines in pieces for each in lines] == list(range(1, 10_001))


def test_right_lines_have_no_fault_and_name_their_model():
    check = checked(line(1), line(2))
    assert (check.faults, check.total, check.model) == ([], 2, "m")
    assert checked(line(1), line(2, body={"model": "other"})).model is None


WRONG = {
    "no JSON": (b"{", "invalid_json", None),
    "no object": (b"[]", "invalid_value", None),
    "no text": (b"\xff", "invalid_json", None),
    "no custom_id": (line(custom_id=...), "invalid_value", "custom_id"),
    "an empty custom_id": (line(custom_id=""), "invalid_value", "custom_id"),
    "another method": (line(method="GET"), "invalid_value", "method"),
    "another url": (line(url="/v1/embeddings"), "invalid_value", "url"),
    "no body": (line(body=...), "invalid_value", "body"),
    "a wrong body": (line(body={"bad": 1}), "unsupported_parameter", "bad"),
    "a line that is too long": (None, "request_too_large", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fault_names_its_line_and_its_field(name):
    raw, code, param = WRONG[name]
    (fault,) = checked(line(7), raw).faults
    assert (fault.line, fault.code, fault.param) == (2, code, param)
    assert fault.message


def test_a_custom_id_that_is_there_twice_names_both_lines():
    (fault,) = checked(line(1), line(2), line(1)).faults
    assert (fault.code, fault.line, fault.param) == ("duplicate_custom_id", 3, "custom_id")
    assert "line 1" in fault.message


def test_only_so_many_faults_are_told():
    check = checked(*[b"{"] * 150, most=1_000)
    assert check.is_hopeless
    assert len(check.faults) == 100


def test_more_lines_than_a_batch_may_have_are_one_fault():
    check = checked(*[line(number) for number in range(5)], most=4)
    assert check.is_hopeless
    assert [(fault.code, fault.line) for fault in check.faults] == [("too_many_lines", None)]


def test_a_file_without_a_line_is_a_fault():
    assert [fault.code for fault in checked().faults] == ["empty_file"]


def test_the_custom_id_of_a_line_is_found_again():
    assert custom_id_of(BatchLine(1, line(3))) == "r3"
