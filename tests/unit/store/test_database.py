"""What is stored, for whom, for how long and how much of it."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store import Database, Entry, StoreFileError, check_file

DAY = 86_400.0


class Now:
    def __init__(self):
        self.seconds = 1_000_000.0

    def __call__(self):
        return self.seconds


def entry(name, body=b"{}", kind="response", **fields):
    return Entry(kind=kind, id=name, created=1.0, body=body, **fields)


@pytest.fixture
def now():
    return Now()


@pytest.fixture(params=["memory", "file"])
def path(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "deep" / "store.db"


@pytest.fixture
def database(path, now):
    made = Database(path, 10_000, DAY, now)
    yield made
    made.close()


def names(page):
    return [found.id for found in page.entries]


def listed(database, owner="a", **fields):
    asked = {"labels": {}, "after": None, "limit": 10, "is_descending": False} | fields
    return database.page(owner, "response", **asked)


def test_an_entry_comes_back_as_it_was_put(database):
    put = entry("r1", b"body", input=b"input", events=b"\x00\xff", labels={"model": "m", "a b": "c"})
    assert database.put("a", put)
    assert database.get("a", "response", "r1") == put
    assert database.get("a", "conversation", "r1") is None
    assert database.put("a", entry("r1", b"other"))
    assert database.get("a", "response", "r1") == entry("r1", b"other")
    assert database.totals() == (entry("r1", b"other").size, 1)


def test_no_owner_reaches_anothers_entries(database):
    database.put("a", entry("r1", b"of a"))
    assert database.get("b", "response", "r1") is None
    assert not database.delete("b", "response", "r1")
    assert database.change("b", "response", "r1", lambda _: entry("r1", b"of b")) is None
    assert names(listed(database, "b")) == []
    assert listed(database, "b", after="r1") is None
    assert database.chain("b", "response", "r1", "previous", 10_000) == "r1"
    database.put("b", entry("r1", b"of b"))
    assert database.get("a", "response", "r1").body == b"of a"


def test_a_deleted_entry_is_gone_and_counts_no_more(database):
    database.put("a", entry("r1"))
    assert database.delete("a", "response", "r1")
    assert not database.delete("a", "response", "r1")
    assert database.get("a", "response", "r1") is None
    assert database.totals() == (0, 0)


def test_a_deleted_text_is_in_no_file(tmp_path):
    database = Database(tmp_path / "store.db", 100_000, DAY)
    secret = b"a text that no one shall find " * 40
    for number in range(20):
        database.put("a", entry(f"r{number}", secret))
    assert any(secret[:30] in file.read_bytes() for file in tmp_path.iterdir())
    for number in range(20):
        database.delete("a", "response", f"r{number}")
    assert not any(secret[:30] in file.read_bytes() for file in tmp_path.iterdir())
    database.close()


def test_an_entry_is_kept_for_its_time_from_its_last_change_on(database, now):
    database.put("a", entry("r1"))
    database.put("a", entry("r2"))
    now.seconds += DAY - 1
    assert database.change("a", "response", "r2", lambda found: found) is not None
    now.seconds += 1
    assert database.get("a", "response", "r1") is None
    assert not database.delete("a", "response", "r1")
    assert names(listed(database)) == ["r2"]
    database.sweep()
    assert database.totals()[1] == 1
    now.seconds += DAY
    database.put("b", entry("r3"))
    assert database.totals()[1] == 1


def test_beyond_the_bytes_the_owner_of_most_loses_its_oldest(database):
    database.put("small", entry("first", bytes(1_000)))
    for number in range(20):
        database.put("large", entry(f"r{number}", bytes(1_000)))
    assert database.totals()[0] <= 10_000
    assert database.get("small", "response", "first") is not None
    assert database.get("large", "response", "r19") is not None
    assert database.get("large", "response", "r0") is None
    assert database.evicted == 14


def test_the_newest_entry_stays_though_its_owner_has_most(database):
    for number in range(9):
        database.put(f"o{number}", entry("r", bytes(500)))
    assert database.put("large", entry("r", bytes(9_000)))
    assert database.get("large", "response", "r") is not None
    assert database.totals()[0] <= 10_000


def test_an_entry_without_room_is_not_stored_and_pushes_nothing_out(database):
    database.put("a", entry("r1"))
    assert not database.put("a", entry("r2", bytes(10_000)))
    assert database.change("a", "response", "r1", lambda _: entry("r1", bytes(10_000))) is None
    assert database.get("a", "response", "r1").body == b"{}"
    assert database.totals()[1] == 1


def test_a_change_that_fails_leaves_the_entry(database):
    database.put("a", entry("r1", b"first"))
    with pytest.raises(ZeroDivisionError):
        database.change("a", "response", "r1", lambda _: 1 / 0)
    assert database.get("a", "response", "r1").body == b"first"
    assert database.change("a", "response", "r1", lambda found: entry("r1", found.body + b"!")).body == b"first!"


def test_a_list_goes_on_behind_any_entry_in_both_orders(database):
    for number in range(5):
        database.put("a", entry(f"r{number}"))
    page = listed(database, limit=2)
    assert (names(page), page.has_more) == (["r0", "r1"], True)
    page = listed(database, after="r1", limit=3)
    assert (names(page), page.has_more) == (["r2", "r3", "r4"], False)
    assert names(listed(database, after="r2", is_descending=True)) == ["r1", "r0"]
    assert listed(database, after="none") is None


def test_a_list_holds_what_has_all_labels(database):
    database.put("a", entry("r1", labels={"model": "m", "metadata.x": "1"}))
    database.put("a", entry("r2", labels={"model": "m"}))
    database.put("a", entry("r3", labels={"model": "n", "metadata.x": "1", '"$': "q"}))
    assert names(listed(database, labels={"model": "m"})) == ["r1", "r2"]
    assert names(listed(database, labels={"model": "m", "metadata.x": "1"})) == ["r1"]
    assert names(listed(database, labels={'"$': "q"})) == ["r3"]
    assert names(listed(database, labels={"model": "' OR 1=1 --"})) == []


def test_a_chain_is_followed_to_its_beginning(database):
    for number in range(4):
        database.put("a", entry(f"r{number}", labels={"previous": f"r{number - 1}"} if number else {}))
    found = database.chain("a", "response", "r3", "previous", 10_000)
    assert [each.id for each in found] == ["r0", "r1", "r2", "r3"]
    assert database.chain("a", "response", "r3", "previous", 600) is None
    database.delete("a", "response", "r1")
    assert database.chain("a", "response", "r3", "previous", 10_000) == "r1"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 4_000)), max_size=30))
def test_the_totals_are_those_of_the_entries_whatever_was_done(steps):
    database = Database(None, 10_000, DAY)
    for owner, number, size in steps:
        if size % 5 == 0:
            database.delete(owner, "response", f"r{number}")
        else:
            database.put(owner, entry(f"r{number}", bytes(size)))
        held = [found for each in "abc" for found in listed(database, each, limit=100).entries]
        assert database.totals() == (sum(found.size for found in held), len(held))
        assert database.totals()[0] <= 10_000
    database.close()


def test_a_file_keeps_its_entries_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "new" / "store.db"
    database = Database(path, 10_000, DAY)
    database.put("a", entry("r1", b"kept"))
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    database.close()
    again = Database(path, 10_000, DAY)
    assert again.get("a", "response", "r1").body == b"kept"
    again.close()


def other_program(path: Path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    path.chmod(0o600)


def later_release(path: Path):
    Database(path, 10_000, DAY).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def no_database(path: Path):
    path.write_bytes(b"something else " * 100)
    path.chmod(0o600)


def damaged(path: Path):
    database = Database(path, 1_000_000, DAY)
    for number in range(200):
        database.put("a", entry(f"r{number}", bytes(500)))
    database.close()
    raw = bytearray(path.read_bytes())
    raw[8_192:60_000] = b"\xa5" * (60_000 - 8_192)
    path.write_bytes(raw)


def link(path: Path):
    path.symlink_to(path.with_name("elsewhere"))


def readable(path: Path):
    Database(path, 10_000, DAY).close()
    path.chmod(0o644)


REASONS = {
    other_program: "database of another program",
    later_release: "its form is 99; this release knows 1",
    no_database: "damaged or no database",
    damaged: "damaged",
    link: "symbolic link",
    readable: "its mode is 0644",
    Path.mkdir: "regular file|directory",
}


@pytest.mark.parametrize("make", REASONS)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(tmp_path, make):
    path = tmp_path / "store.db"
    make(path)
    with pytest.raises(StoreFileError, match=REASONS[make]) as caught:
        check_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if make is not damaged:  # a look at every page is for the start
        with pytest.raises((StoreFileError, sqlite3.DatabaseError)):
            Database(path, 10_000, DAY)


def test_a_file_that_is_right_or_not_there_yet_passes_and_none_is_made(tmp_path):
    check_file(tmp_path / "new" / "store.db")
    assert list(tmp_path.iterdir()) == []
    Database(tmp_path / "store.db", 10_000, DAY).close()
    check_file(tmp_path / "store.db")
    with pytest.raises(StoreFileError, match="no file can be made there"):
        check_file(Path("/proc/1/store.db"))
