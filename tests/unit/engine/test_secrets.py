"""A secret comes from a way that was lent, and from nowhere else."""

import pytest

from gateway.engine import LoadFailed, lend_secrets, secret
from gateway.engine import secrets as module


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    monkeypatch.setattr(module, "_lookups", [])


def test_a_secret_is_looked_up_where_it_was_lent_last(monkeypatch):
    monkeypatch.setenv("NAMED", "environment")
    with pytest.raises(LoadFailed, match="has no NAMED here"):
        secret("NAMED")
    lend_secrets({"NAMED": "first"}.get)
    lend_secrets({"NAMED": "second", "EMPTY": ""}.get)
    assert secret("NAMED") == "second"
    with pytest.raises(LoadFailed, match="has no EMPTY here"):
        secret("EMPTY")
