import json

import pytest

from gateway.api.http.large_bodies import count, weigh


def test_a_body_of_plain_text_weighs_its_bytes():
    raw = json.dumps({"text": "x" * 100_000}).encode()
    assert len(raw) <= weigh(raw) <= len(raw) + 200


def test_a_small_body_is_not_looked_through():
    assert weigh(b"{,{," * 1_000) == 4_000


@pytest.mark.parametrize(("piece", "more"), [(b"{}", 128), (b"1,", 8), (b'{"a":1},', 136)])
def test_objects_and_values_weigh_more_than_their_bytes(piece, more):
    times = 50_000
    assert weigh(piece * times) == times * (len(piece) + more)


def test_marks_are_counted_in_every_part_of_a_body():
    raw = b"x" * 70_000 + b"{" * 3 + b"x" * 140_000 + b"{"
    assert count(raw, b"{") == 4
