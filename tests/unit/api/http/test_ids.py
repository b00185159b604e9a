import time

from ulid import ULID

from gateway.api.http import ids
from gateway.api.http.ids import RequestIds


def test_an_id_is_a_ulid_of_this_moment():
    before = time.time_ns() // 1_000_000
    made = RequestIds().new()
    assert str(ULID.from_str(made)) == made
    assert before <= ULID.from_str(made).milliseconds <= time.time_ns() // 1_000_000


def test_ids_are_written_as_the_library_writes_them(monkeypatch):
    random = bytes(range(10)) + b"\xff" * 10
    monkeypatch.setattr(ids.os, "urandom", lambda _: random)
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_767_242_302_123_999_999)
    source, head = RequestIds(), (1_767_242_302_123).to_bytes(6, "big")
    assert [source.new(), source.new()] == [str(ULID(head + random[:10])), str(ULID(head + random[10:]))]


def test_no_two_ids_are_the_same_and_later_ones_sort_behind(monkeypatch):
    source = RequestIds()
    first = {source.new() for _ in range(3 * ids._AHEAD)}
    assert len(first) == 3 * ids._AHEAD
    now = time.time_ns()
    monkeypatch.setattr(ids.time, "time_ns", lambda: now + 5_000_000)
    assert source.new() > max(first)


def test_two_sources_share_no_random_bytes():
    one, other = RequestIds(), RequestIds()
    assert not {one.new() for _ in range(200)} & {other.new() for _ in range(200)}
