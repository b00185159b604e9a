"""What is known of files: each owner's apart, within its room, and for its time."""

import pytest

from gateway.store import BatchRecord, BatchTable, Database, FileInUse, FileRecord, FileRoom, FileTable, QuotaExceeded

ROOM = FileRoom(all_bytes=1_000, bytes=500, files=3)


@pytest.fixture
def database():
    made = Database(None, 10_000, 86_400.0, lambda: 1_000.0)
    yield made
    made.close()


@pytest.fixture
def table(database):
    return FileTable(database)


def record(name, size=10, **fields):
    facts = {"purpose": "batch", "filename": "a.jsonl", "created_at": 1} | fields
    return FileRecord(id=name, bytes=size, **facts)


def listed(table, owner="a", **fields):
    asked = {"purpose": None, "after": None, "limit": 10, "is_descending": False} | fields
    return table.page(owner, **asked)


def names(page):
    return [file.id for file in page.files]


def test_a_file_is_found_by_its_owner_only(table):
    table.add("a", record("f"), ROOM)
    assert table.get("a", "f") == record("f")
    assert table.get("b", "f") is None
    assert not table.delete("b", "f")
    assert table.delete("a", "f")
    assert table.get("a", "f") is None


def test_a_list_goes_on_where_it_ended_in_both_directions_and_by_purpose(table):
    for number in range(3):
        table.add("a", record(f"f{number}", purpose="batch_output" if number == 1 else "batch"), ROOM)
    first = listed(table, limit=2)
    assert (names(first), first.has_more) == (["f0", "f1"], True)
    assert names(listed(table, after="f1")) == ["f2"]
    assert names(listed(table, is_descending=True)) == ["f2", "f1", "f0"]
    assert names(listed(table, after="f1", is_descending=True)) == ["f0"]
    assert names(listed(table, purpose="batch_output")) == ["f1"]
    assert listed(table, after="none") is None
    assert names(listed(table, owner="b")) == []


@pytest.mark.parametrize(
    ("files", "owner", "size", "setting"),
    [
        ([("a", 10)] * 3, "a", 1, "files.per_key is 3"),
        ([("a", 400)], "a", 101, "files.bytes_per_key is 500"),
        ([("a", 450), ("b", 450)], "c", 101, "files.max_bytes is 1000"),
    ],
)
def test_what_has_no_room_is_refused_with_the_setting(table, files, owner, size, setting):
    for number, (each, own) in enumerate(files):
        table.add(each, record(f"f{number}", own), ROOM)
    with pytest.raises(QuotaExceeded, match=setting):
        table.add(owner, record("more", size), ROOM)
    assert table.get(owner, "more") is None


def batch(name="b", given="f", **fields):
    facts = {"endpoint": "/v1/completions", "completion_window": "1h", "created_at": 1, "expires_at": 3_601} | fields
    return BatchRecord(id=name, input_file_id=given, **facts)


def test_a_file_that_a_batch_reads_is_neither_deleted_nor_expired(database, table):
    table.add("a", record("f", expires_at=50), ROOM)
    BatchTable(database).add("a", batch(), 1)
    with pytest.raises(FileInUse, match="b reads this file"):
        table.delete("a", "f")
    assert table.expire(100.0) == []
    BatchTable(database).change("b", lambda found: batch(status="cancelled"))
    assert table.expire(49.0) == []
    assert table.expire(50.0) == ["f"]
    assert table.ids() == []


def test_a_file_without_an_end_stays(table):
    table.add("a", record("f"), ROOM)
    assert table.expire(1e12) == []
