"""Whose is this key? The answer is the newest, and the same for all that are wrong."""

import hmac
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


def test_a_key_says_who_asks(file, keyring):
    quota = Quota(concurrent=3)
    key, text = file.create("shop", models=frozenset({"small"}), quota=quota)
    caller = keyring.caller(text)
    assert (caller.id, caller.name, caller.quota) == (key.id, "shop", quota)
    assert caller.may(Scope.INFER)
    assert not caller.may(Scope.ADMIN)
    assert not caller.may(Scope.METRICS)


def test_an_admin_may_everything(file, keyring):
    _, text = file.create("boss", scopes=frozenset({Scope.ADMIN}))
    assert all(keyring.caller(text).may(scope) for scope in Scope)


@pytest.mark.parametrize("models", [None, frozenset({"small", "org/small"})])
def test_a_key_may_be_for_some_models_only(models):
    entry = KeyEntry(sha256=digest_of(CONFIGURED), models=models)
    assert Keyring({"shop": entry}).caller(CONFIGURED).models == models


def test_a_revoked_key_is_refused_at_once(file, keyring):
    _, text = file.create("shop")
    assert keyring.caller(text).name == "shop"
    file.revoke("shop")
    assert keyring.caller(text) is Refusal.REVOKED


def test_a_key_expires_on_the_second(file, keyring, clock):
    _, text = file.create("shop", seconds=60)
    clock.advance(59.9)
    assert keyring.caller(text).name == "shop"
    clock.advance(0.1)
    assert keyring.caller(text) is Refusal.EXPIRED


def test_an_unknown_key_is_nobodys(file, keyring):
    _, text = file.create("shop")
    assert keyring.caller(new_key()[1]) is Refusal.UNKNOWN
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert keyring.caller(other) is Refusal.UNKNOWN


@given(st.text())
def test_no_text_whatever_opens_or_breaks_anything(text):
    keyring = Keyring({"shop": KeyEntry(sha256=digest_of(CONFIGURED))})
    assert isinstance(keyring.caller(text), Refusal) or text == CONFIGURED


@pytest.mark.parametrize("credential", ["", "' OR 1=1 --", "x" * 257, "llmg_\n", "ключ-ключ-ключ", "\ud800" * 9])
def test_what_cannot_be_a_key_is_malformed(file, keyring, credential):
    file.create("shop")
    assert keyring.caller(credential) is Refusal.MALFORMED


def test_every_answer_takes_one_hash_and_one_constant_comparison(file, keyring, clock):
    texts = {"good": file.create("good")[1], "old": file.create("old", seconds=1)[1], "gone": file.create("gone")[1]}
    file.revoke("gone")
    clock.advance(2)
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
    assert keyring.caller(CONFIGURED).name == "ci"
    assert keyring.caller(text).priority == 5
    file.revoke("shop")
    assert keyring.caller(text).priority == 5


def test_without_any_key_everybody_may_call_until_there_is_one(file, keyring):
    assert Keyring().is_open
    assert keyring.is_open
    assert keyring.caller(None) is keyring.caller("any-key-at-all") is ANONYMOUS
    file.create("shop")
    assert not keyring.is_open
    assert keyring.caller(None) is Refusal.MISSING


def test_once_closed_it_never_opens_again(file, keyring):
    _, text = file.create("shop")
    assert not keyring.is_open
    file.path.unlink()
    assert not keyring.is_open
    assert keyring.caller(text) is Refusal.UNKNOWN


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
    assert keyring.caller(text).name == "shop"
    file.revoke("shop")
    file.path.chmod(0o644)
    assert keyring.caller(text).name == "shop"
    file.path.chmod(0o600)
    assert keyring.caller(text) is Refusal.REVOKED


def test_an_unchanged_file_is_not_read_again(file, keyring):
    _, text = file.create("shop")
    keyring.caller(text)
    with mock.patch.object(file, "read") as read:
        for _ in range(100):
            keyring.caller(text)
    assert read.call_count == 0


def test_a_request_looks_at_the_file_once(file, keyring):
    _, text = file.create("shop")
    for credential in (text, None, "not-a-key-of-ours"):
        with mock.patch.object(file, "stamp", wraps=file.stamp) as stamp:
            keyring.caller(credential)
        assert stamp.call_count == 1


def test_a_configured_hash_must_be_one():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sha256": "llmg_" + "x" * 32}, KeyEntry)
