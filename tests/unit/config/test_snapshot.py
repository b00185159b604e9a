"""The rules in force are swapped whole, and what cannot change is named."""

import pytest
from msgspec import structs

from gateway.auth import KeyFile, KeyFileError
from gateway.config import AuthSettings, Config, EngineSettings, LimitsSettings, ServerSettings
from gateway.config.snapshot import CurrentConfig, Snapshot

ECHO = {"default": EngineSettings(plugin="echo")}


def test_other_rules_are_in_force_at_once(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    file.create("shop")
    live = CurrentConfig(Snapshot.of(Config(engines=ECHO)))
    assert live.snapshot.keyring.is_open
    assert live.swap(Snapshot.of(Config(engines=ECHO, auth=AuthSettings(file=str(tmp_path / "keys.db"))))) == []
    assert not live.snapshot.keyring.is_open
    assert live.config.auth.file


def test_what_only_a_restart_can_change_is_named():
    live = CurrentConfig(Snapshot.of(Config(engines=ECHO)))
    server = ServerSettings(port=9_000, request_seconds=5.0)
    changed = Config(engines=ECHO, server=server, limits=LimitsSettings(when_down="refuse"))
    changed = structs.replace(changed, telemetry=structs.replace(changed.telemetry, log_level="DEBUG"))
    assert live.swap(Snapshot.of(changed)) == ["server.port", "telemetry", "limits.when_down"]


def test_keys_that_cannot_be_read_change_nothing(tmp_path):
    bad = tmp_path / "keys.db"
    bad.write_text("no keys")
    bad.chmod(0o600)
    with pytest.raises(KeyFileError):
        Snapshot.of(Config(engines=ECHO, auth=AuthSettings(file=str(bad))))


def test_a_key_file_that_is_gone_opens_no_door(tmp_path):
    gone = AuthSettings(file=str(tmp_path / "keys.db"))
    with pytest.raises(KeyFileError, match="no key in"):
        Snapshot.of(Config(engines=ECHO, auth=gone))
    assert Snapshot.of(Config(engines=ECHO, auth=structs.replace(gone, insecure_no_auth=True))).keyring.is_open
