"""Batches and the results of their lines: each once, counted with it, and gone when the batch is over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.store import (
    BatchRecord,
    BatchTable,
    Database,
    FileRecord,
    FileRoom,
    FileTable,
    LineResult,
    QuotaExceeded,
    TokenSums,
    TooManyBatches,
)

ROOM = FileRoom(all_bytes=10_000, bytes=1_000, files=10)


class Now:
    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def database(now, tmp_path):
    made = Database(tmp_path / "store.db", 10_000, 86_400.0, now)
    FileTable(made).add("a", file("f"), ROOM)
    yield made
    made.close()


@pytest.fixture
def table(database):
    return BatchTable(database)


def file(name, purpose="batch"):
    return FileRecord(id=name, purpose=purpose, filename="a.jsonl", bytes=10, created_at=1)


def batch(name="b", given="f", **fields):
    facts = {"endpoint": "/v1/completions", "completion_window": "1h", "created_at": 1, "expires_at": 3_601} | fields
    return BatchRecord(id=name, input_file_id=given, **facts)


def result(number, text=b"x", *, is_error=False, **fields):
    return LineResult(number=number, is_error=is_error, text=text, **fields)


def test_a_batch_is_found_and_listed_by_its_owner_only(table):
    for number in range(3):
        assert table.add("a", batch(f"b{number}"), 3) == file("f")
    assert table.get("a", "b1") == batch("b1")
    assert table.get("b", "b1") is None
    first = table.page("a", None, 2)
    assert ([found.id for found in first.batches], first.has_more) == (["b2", "b1"], True)
    assert [found.id for found in table.page("a", "b1", 2).batches] == ["b0"]
    assert table.page("b", None, 2).batches == ()
    assert table.page("b", "b1", 2) is None


def test_a_batch_needs_its_file_and_is_one_of_few(database, table):
    FileTable(database).add("a", file("out", "batch_output"), ROOM)
    assert table.add("b", batch(), 9) is None
    assert table.add("a", batch(given="out"), 9) == file("out", "batch_output")
    assert table.get("a", "b") is None
    table.add("a", batch(), 1)
    with pytest.raises(TooManyBatches, match=r"batches\.per_key is 1"):
        table.add("a", batch("b2"), 1)
    table.change("b", lambda found: structs.replace(found, status="completed"))
    table.add("a", batch("b2"), 1)


def test_the_result_of_a_line_is_stored_once_and_counted_once(table):
    table.add("a", batch(), 1)
    tokens = TokenSums(3, 1, 2, 0)
    assert table.put("b", result(2, b"two", tokens=tokens), ROOM).completed == 1
    again = table.put("b", result(2, b"other", is_error=True), ROOM)
    assert (again.completed, again.failed, again.tokens) == (1, 0, tokens)
    assert table.put("b", result(1, b"one", is_error=True), ROOM).failed == 1
    assert table.done("b") == {1, 2}
    assert table.results("b", is_error=False, after=0, limit=9) == [(2, b"two")]
    assert table.results("b", is_error=True, after=0, limit=9) == [(1, b"one")]
    assert table.put("gone", result(1), ROOM) is None


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=40))
def test_counts_are_those_of_the_results_whatever_comes_twice(lines):
    database = Database(None, 10_000, 86_400.0)
    FileTable(database).add("a", file("f"), ROOM)
    table = BatchTable(database)
    table.add("a", batch(), 1)
    first: dict[int, bool] = {}
    for number, is_error in lines:
        table.put("b", result(number, is_error=is_error), ROOM)
        first.setdefault(number, is_error)
    found = table.get("a", "b")
    assert (found.completed, found.failed) == (len(first) - sum(first.values()), sum(first.values()))
    assert table.done("b") == first.keys()
    database.close()


def test_results_take_room_of_their_owner_until_they_are_in_files(database, table):
    table.add("a", batch(), 1)
    table.put("b", result(1, b"x" * 900), ROOM)
    with pytest.raises(QuotaExceeded):
        table.put("b", result(2, b"x" * 100), ROOM)
    assert table.done("b") == {1}
    assert FileTable(database).used("a") == (910, 1)
    made = FileRecord(id="out", purpose="batch_output", filename="o", bytes=900, created_at=2)
    ended = table.finish("b", [made], lambda found: structs.replace(found, status="completed"))
    assert ended.is_over
    assert FileTable(database).used("a") == (910, 2)
    assert FileTable(database).get("a", "out") == made


def test_results_are_read_in_pages_in_the_order_of_their_lines(table):
    table.add("a", batch(), 1)
    for number in (3, 1, 2):
        table.put("b", result(number, b"%d" % number), ROOM)
    assert table.results("b", is_error=False, after=0, limit=2) == [(1, b"1"), (2, b"2")]
    assert table.results("b", is_error=False, after=2, limit=2) == [(3, b"3")]


def test_what_is_over_is_cleared_and_forgotten_and_the_rest_stays(table, now):
    for name in ("b1", "b2"):
        table.add("a", batch(name), 2)
        for number in (1, 2, 3):
            table.put(name, result(number), ROOM)
    table.finish("b1", [], lambda found: structs.replace(found, status="completed"))
    assert table.clear(2)
    assert not table.clear(2)
    assert (table.done("b1"), table.done("b2")) == (set(), {1, 2, 3})
    assert [found.record.id for found in table.under_way()] == ["b2"]
    now.seconds += 10
    table.forget(now())
    assert table.get("a", "b1") is None
    assert table.get("a", "b2") is not None


def test_a_store_of_an_earlier_release_gets_the_tables(tmp_path):
    path = tmp_path / "old.db"
    old = Database(path, 10_000, 86_400.0)
    for name in ("files", "batches", "lines"):
        old.connection.execute(f"DROP TABLE {name}")
    old.close()
    new = Database(path, 10_000, 86_400.0)
    assert BatchTable(new).under_way() == []
    new.close()
