"""Clients that make up where they come from: no header of theirs changes whose attempts are counted."""

import pytest

from gateway.auth import KeyFile
from tests.support.observe import eventually
from tests.support.service import Service


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A service with keys, whose trusted proxy would be another machine or 127.0.0.1."""
    path = tmp_path_factory.mktemp("keys") / "keys.db"
    KeyFile(path).create("one")

    def start(allow):
        return Service(LOG_LEVEL="DEBUG", LLM_GATEWAY__AUTH__FILE=str(path), LLM_GATEWAY__SERVER__FORWARDED_ALLOW=allow)

    return start


def guess(service, number, address):
    headers = {"authorization": f"Bearer wrong-{number}", "x-forwarded-for": address}
    return service.client.get("/v1/models", headers=headers).status_code


def test_guesses_from_made_up_addresses_are_those_of_one_client(keyed):
    with keyed('["10.0.0.1"]') as service:
        codes = [guess(service, number, f"192.0.2.{number}") for number in range(12)]
        assert codes == [401] * 10 + [429] * 2
        eventually(lambda: len(service.requests()) >= 12)
        assert {line["client"] for line in service.requests()} == {"127.0.0.1"}


def test_behind_a_trusted_proxy_each_client_has_guesses_of_its_own(keyed):
    with keyed('["127.0.0.1"]') as service:
        assert [guess(service, number, "6.6.6.6, 192.0.2.1") for number in range(11)] == [401] * 10 + [429]
        assert guess(service, 11, "192.0.2.1, 192.0.2.2") == 401
        assert guess(service, 12, "192.0.2.2, 192.0.2.1") == 429
        eventually(lambda: len(service.requests()) >= 13)
        assert {line["client"] for line in service.requests() if line["route"] == "/v1/models"} == {
            "192.0.2.1",
            "192.0.2.2",
        }
