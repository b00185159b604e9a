"""Whose is this key? The answer is the newest, and the same for all that are wrong."""

import asyncio
import hmac
import os
import sqlite3
import threading
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import ANONYMOUS, KeyEntry, KeyFile, KeyFileError, Keyring, Refusal, Scope, digest_of, new_key
from gateway.limits import Quota
from tests.support.clock import Clock

CONFIGURED = "configured-key-0001"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path, clock):
    return KeyFile(tmp_path / "keys.db", clock)


@pytest.fixture
def keyring(file, clock):
    return Keyring(file=file, clock=clock)


def ask(keyring, credential):
    """Ask as a request does: the file is looked at, and read where it has changed."""
    asyncio.run(keyring.refresh())
    return keyring.caller(credential)


def test_a_key_says_who_asks(file, keyring):
    quota = Quota(concurrent=3)
    key, text = file.create("shop", models=frozenset({"small"}), quota=quota)
    caller = ask(keyring, text)
    assert (caller.id, caller.name, caller.quota) == (key.id, "shop", quota)
    assert caller.may(Scope.INFER)
    assert not caller.may(Scope.ADMIN)
    assert not caller.may(Scope.METRICS)


def test_an_admin_may_everything(file, keyring):
    _, text = file.create("boss", scopes=frozenset({Scope.ADMIN}))
    assert all(ask(keyring, text).may(scope) for scope in Scope)


@pytest.mark.parametrize("models", [None, frozenset({"small", "org/small"})])
def test_a_key_may_be_for_some_models_only(models):
    entry = KeyEntry(sha256=digest_of(CONFIGURED), models=models)
    assert Keyring({"shop": entry}).caller(CONFIGURED).models == models


def test_a_revoked_key_is_refused_at_once(file, keyring):
    _, text = file.create("shop")
    assert ask(keyring, text).name == "shop"
    file.revoke("shop")
    assert ask(keyring, text) is Refusal.REVOKED


def test_a_key_expires_on_the_second(file, keyring, clock):
    _, text = file.create("shop", seconds=60)
    clock.advance(59.9)
    assert ask(keyring, text).name == "shop"
    clock.advance(0.1)
    assert ask(keyring, text) is Refusal.EXPIRED


def test_an_unknown_key_is_nobodys(file, keyring):
    _, text = file.create("shop")
    assert ask(keyring, new_key()[1]) is Refusal.UNKNOWN
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert ask(keyring, other) is Refusal.UNKNOWN


@given(st.text())
def test_no_text_whatever_opens_or_breaks_anything(text):
    keyring = Keyring({"shop": KeyEntry(sha256=digest_of(CONFIGURED))})
    assert isinstance(ask(keyring, text), Refusal) or text == CONFIGURED


@pytest.mark.parametrize("credential", ["", "' OR 1=1 --", "x" * 257, "llmg_\n", "ключ-ключ-ключ", "\ud800" * 9])
def test_what_cannot_be_a_key_is_malformed(file, keyring, credential):
    file.create("shop")
    assert ask(keyring, credential) is Refusal.MALFORMED


def test_every_answer_takes_one_hash_and_one_constant_comparison(file, keyring, clock):
    texts = {"good": file.create("good")[1], "old": file.create("old", seconds=1)[1], "gone": file.create("gone")[1]}
    file.revoke("gone")
    clock.advance(2)
    asyncio.run(keyring.refresh())
    for credential in (*texts.values(), new_key()[1], "", "x" * 999):
        with (
            mock.patch("gateway.auth.keyring.digest_of", wraps=digest_of) as hashed,
            mock.patch("gateway.auth.keyring.hmac.compare_digest", wraps=hmac.compare_digest) as compared,
        ):
            keyring.caller(credential)
        assert (hashed.call_count, compared.call_count) == (1, 1)


def test_the_configuration_has_keys_of_its_own_and_the_first_word(file, clock):
    _, text = file.create("shop")
    entries = {"shop": KeyEntry(sha256=digest_of(text), priority=5), "ci": KeyEntry(sha256=digest_of(CONFIGURED))}
    keyring = Keyring(entries, file, clock)
    assert ask(keyring, CONFIGURED).name == "ci"
    assert ask(keyring, text).priority == 5
    file.revoke("shop")
    assert ask(keyring, text).priority == 5


def test_without_any_key_everybody_may_call_until_there_is_one(file, keyring):
    assert Keyring().is_open
    assert keyring.is_open
    assert ask(keyring, None) is ask(keyring, "any-key-at-all") is ANONYMOUS
    file.create("shop")
    assert ask(keyring, None) is Refusal.MISSING
    assert not keyring.is_open


def test_once_closed_it_never_opens_again(file, keyring):
    _, text = file.create("shop")
    assert ask(keyring, text).name == "shop"
    file.path.unlink()
    assert ask(keyring, text) is Refusal.UNKNOWN
    assert not keyring.is_open


def test_only_revoked_keys_are_keys_all_the_same(file, clock):
    file.create("shop")
    file.revoke("shop")
    assert not Keyring(file=file, clock=clock).is_open


def test_an_unreadable_file_keeps_the_gateway_from_starting(file, clock):
    file.create("shop")
    file.path.chmod(0o644)
    with pytest.raises(KeyFileError):
        Keyring(file=file, clock=clock)


def test_a_file_that_becomes_unreadable_leaves_the_keys_as_they_were(file, keyring):
    _, text = file.create("shop")
    assert ask(keyring, text).name == "shop"
    file.revoke("shop")
    file.path.chmod(0o644)
    assert ask(keyring, text).name == "shop"
    file.path.chmod(0o600)
    assert ask(keyring, text) is Refusal.REVOKED


def test_an_unchanged_file_is_not_read_again(file, keyring):
    _, text = file.create("shop")
    ask(keyring, text)
    with mock.patch.object(file, "read") as read:
        for _ in range(100):
            ask(keyring, text)
    assert read.call_count == 0


def test_a_look_at_the_file_takes_one_stamp(file, keyring):
    file.create("shop")
    with mock.patch.object(file, "stamp", wraps=file.stamp) as stamp:
        assert keyring.is_behind()
    assert stamp.call_count == 1


class Lock:
    """Another program that has the file for itself."""

    def __init__(self, file):
        self._connection = sqlite3.connect(file.path)

    def __enter__(self):
        self._connection.execute("BEGIN EXCLUSIVE")

    def __exit__(self, *_):
        self._connection.close()


def test_a_locked_file_leaves_the_keys_as_they_were_and_is_read_when_it_is_free(file, keyring):
    _, text = file.create("shop")
    assert ask(keyring, text).name == "shop"
    file.revoke("shop")
    with Lock(file):
        for _ in range(3):
            assert ask(keyring, text).name == "shop"
        assert "locked" in keyring.trouble
    assert ask(keyring, text) is Refusal.REVOKED
    assert keyring.trouble == ""


def test_a_file_that_is_locked_for_long_is_waited_for_once(file, keyring):
    file.create("shop")
    patience = []
    with Lock(file), mock.patch.object(file, "read", side_effect=lambda left: patience.append(left) or raise_locked()):
        for _ in range(3):
            ask(keyring, "some-key")
    assert patience == [0.1, 0.0, 0.0]


def raise_locked():
    raise KeyFileError("database is locked")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_leaves_the_keys_as_they_were(file, keyring, make):
    _, text = file.create("shop")
    assert ask(keyring, text).name == "shop"
    file.path.unlink()
    make(file.path)
    assert ask(keyring, text).name == "shop"
    assert "no regular file" in keyring.trouble


def test_a_link_to_the_file_may_be_turned_to_another_one(tmp_path, clock):
    """As Kubernetes does with a secret."""
    files = [KeyFile(tmp_path / name / "keys.db", clock) for name in ("one", "two")]
    texts = [each.create("shop")[1] for each in files]
    (tmp_path / "current").symlink_to("one")
    keyring = Keyring(file=KeyFile(tmp_path / "current" / "keys.db", clock), clock=clock)
    assert [isinstance(ask(keyring, text), Refusal) for text in texts] == [False, True]
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert [isinstance(ask(keyring, text), Refusal) for text in texts] == [True, False]


async def test_the_loop_runs_while_the_file_is_read_and_a_late_reading_is_waited_for_once(file, keyring, monkeypatch):
    monkeypatch.setattr("gateway.auth.keyring._PATIENCE_SECONDS", 0.05)
    _, text = file.create("shop")
    await keyring.refresh()
    file.revoke("shop")
    free, read = threading.Event(), file.read
    with mock.patch.object(file, "read", side_effect=lambda left: free.wait(60) and read(left)) as reading:
        await asyncio.gather(keyring.refresh(), keyring.refresh())
        assert "could not be read" in keyring.trouble
        await keyring.refresh()
        assert keyring.caller(text).name == "shop"
        assert reading.call_count == 1
        free.set()
        await keyring._reading
    assert keyring.caller(text) is Refusal.REVOKED


async def test_a_request_that_comes_while_the_file_is_read_sees_what_was_changed_meanwhile(file, keyring):
    _, text = file.create("shop")
    read, begun = file.read, threading.Event()

    def change(left=5.0):
        keys = read(left)
        if not begun.is_set():
            begun.set()
            file.revoke("shop")
        return keys

    with mock.patch.object(file, "read", side_effect=change):
        first = asyncio.create_task(keyring.refresh())
        await asyncio.to_thread(begun.wait, 60)
        await keyring.refresh()
        await first
    assert keyring.caller(text) is Refusal.REVOKED


def test_a_worker_that_finds_the_file_locked_lets_nobody_in_until_it_is_read(file, clock):
    _, text = file.create("shop")
    entry = {"ci": KeyEntry(sha256=digest_of(CONFIGURED))}
    with Lock(file):
        keyring = Keyring(entry, file, clock, may_wait=True)
        assert not keyring.is_open
        assert ask(keyring, None) is Refusal.MISSING
        assert ask(keyring, text) is Refusal.UNREAD
        assert ask(keyring, CONFIGURED).name == "ci"
    assert ask(keyring, text).name == "shop"
    assert ask(keyring, new_key()[1]) is Refusal.UNKNOWN


def test_a_configured_hash_must_be_one():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sha256": "llmg_" + "x" * 32}, KeyEntry)


def test_the_caller_of_a_key_is_found_by_its_id_as_long_as_the_key_is_valid(file, keyring, clock):
    assert keyring.caller_of(ANONYMOUS.id) == ANONYMOUS
    assert keyring.caller_of("none") is Refusal.UNKNOWN
    key, text = file.create("shop", seconds=10)
    caller = ask(keyring, text)
    assert keyring.caller_of(key.id) == caller
    assert keyring.caller_of("none") is Refusal.UNKNOWN
    assert keyring.caller_of(ANONYMOUS.id) is Refusal.UNKNOWN  # there are keys now
    clock.advance(10)
    assert keyring.caller_of(key.id) is Refusal.EXPIRED
    file.revoke("shop")
    ask(keyring, text)
    assert keyring.caller_of(key.id) is Refusal.REVOKED
