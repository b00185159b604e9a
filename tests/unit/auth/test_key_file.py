"""Keys are kept as hashes, in a file that nobody else can read."""

import os
import re
import stat
import time

import pytest

from gateway.auth import KeyFile, KeyFileError, Scope, digest_of, new_key
from gateway.limits import Quota
from tests.support.clock import Clock


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys" / "keys.db", Clock())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_has_190_random_bits():
    made = {new_key()[1] for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(r"llmg_[A-Za-z0-9]{32}", key) for key in made)
    assert 62**32 > 2**190
    assert len(set("".join(key[5:] for key in made))) == 62


def test_a_key_is_kept_with_all_that_it_may(file):
    quota = Quota(requests_per_minute=5, tokens_per_day=7)
    key, text = file.create(
        "shop", scopes=frozenset({Scope.INFER, Scope.METRICS}), models=frozenset({"a", "b"}), quota=quota, seconds=60
    )
    assert file.read() == [key]
    assert key.digest == digest_of(text)
    assert key.expires == 1_060
    assert (key.quota, key.models, key.revoked) == (quota, {"a", "b"}, None)


def test_neither_the_key_nor_a_part_of_it_is_in_any_file(file):
    _, text = file.create("shop")
    for path in file.path.parent.iterdir():
        content = path.read_bytes()
        assert text.encode() not in content
        assert text[5:].encode() not in content


def test_file_and_folder_are_made_for_the_owner_only(file):
    before = os.umask(0)
    try:
        file.create("shop")
    finally:
        os.umask(before)
    assert mode(file.path) == 0o600
    assert mode(file.path.parent) == 0o700


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_can_touch_is_refused(file, bits):
    file.create("shop")
    file.path.chmod(bits)
    for use in (file.read, lambda: file.create("other"), lambda: file.revoke("shop")):
        with pytest.raises(KeyFileError, match="must be 0600"):
            use()


def test_a_file_that_is_none_of_ours_is_refused(file):
    file.path.parent.mkdir()
    file.path.write_text("this is no database, only a long text that SQLite cannot read" * 20)
    file.path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a database"):
        file.read()


def test_without_a_file_there_are_no_keys_and_none_is_made(file):
    assert file.read() == []
    assert file.stamp() is None
    assert not file.path.exists()


def test_two_keys_cannot_have_one_name(file):
    file.create("shop")
    with pytest.raises(KeyFileError, match="named 'shop' already"):
        file.create("shop")
    assert len(file.read()) == 1


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "<b>"])
def test_a_name_that_would_spoil_a_log_is_refused(file, name):
    with pytest.raises(KeyFileError, match="no such key can be made"):
        file.create(name)
    assert not file.path.exists()


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_revoked_key_stays_in_the_list_and_is_revoked_once(file, by):
    key, _ = file.create("shop")
    revoked = file.revoke(getattr(key, by))
    assert revoked.revoked == 1_000
    file._clock.advance(9)
    assert file.revoke("shop").revoked == 1_000
    assert file.read() == [revoked]


def test_only_a_key_that_is_there_can_be_revoked(file):
    with pytest.raises(KeyFileError, match="there is no key 'nobody'"):
        file.revoke("nobody")


def test_every_change_changes_the_stamp_however_fast_they_come(file):
    stamps = {None}
    for number in range(20):
        file.create(str(number))
        stamps.add(file.stamp())
        file.revoke(str(number))
        stamps.add(file.stamp())
    assert len(stamps) == 41


def test_a_change_within_one_tick_of_the_clock_is_seen_too(file):
    file.create("shop")
    before, status = file.stamp(), file.path.stat()
    file.revoke("shop")
    os.utime(file.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.path.stat().st_size == status.st_size
    assert file.stamp() != before


def test_a_file_that_has_not_changed_of_late_is_not_opened(file, monkeypatch):
    file.create("shop")
    later = time.time_ns() + 10**10
    monkeypatch.setattr("gateway.auth.key_file.time.time_ns", lambda: later)
    monkeypatch.setattr(file, "_counter", None)
    before = file.stamp()
    assert file.stamp() == before
    os.utime(file.path)
    assert file.stamp() != before


def test_a_stamp_that_was_taken_in_the_tick_of_a_change_is_not_trusted_afterwards(file, monkeypatch):
    """A second change in that tick would have left the file's time as it is."""
    file.create("shop")
    recent, later = file.stamp(), time.time_ns() + 10**10
    monkeypatch.setattr("gateway.auth.key_file.time.time_ns", lambda: later)
    assert file.stamp() != recent
