"""One service holds a store's file, whatever else opens and closes it."""

import os

import pytest

from gateway.store import Database, Entry, StoreFileError, check_file, hold

DAY = 86_400.0


def test_a_file_is_held_until_its_holder_lets_it_go(tmp_path):
    path = tmp_path / "new" / "store.db"
    held = hold(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreFileError, match=f"{path}: another service uses it"):
        hold(path)
    os.close(held)
    os.close(hold(path))


def test_a_file_that_is_held_is_checked_used_and_still_held(tmp_path):
    path = tmp_path / "store.db"
    held = hold(path)
    check_file(path)
    database = Database(path, 10_000, DAY)
    entry = Entry(kind="response", id="r1", created=1.0, body=b"{}")
    assert database.put("a", entry)
    database.close()  # closes descriptors of the same file, which would drop any lock of this process
    check_file(path)
    with pytest.raises(StoreFileError, match="another service"):
        hold(path)
    os.close(held)
    database = Database(path, 10_000, DAY)
    assert database.get("a", "response", "r1") == entry
    database.close()


def test_a_link_is_not_held(tmp_path):
    path = tmp_path / "store.db"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFileError, match="symbolic link"):
        hold(path)
    assert not (tmp_path / "elsewhere").exists()
