"""Two replicas share the limits of a key in a real store, and go on without it as configured."""

import pytest

from gateway.auth import KeyFile
from gateway.limits import Quota
from tests.support.observe import eventually, is_error
from tests.support.service import Service
from tests.support.store import StoreServer


@pytest.fixture
def store():
    server = StoreServer()
    yield server
    server.close()


@pytest.fixture
def keys(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    return {
        "LLM_GATEWAY__AUTH__FILE": str(tmp_path / "keys.db"),
        "key": file.create("shop", quota=Quota(requests_per_minute=6))[1],
    }


def ask(service, key):
    return service.client.post("/v1/generate", json={"prompt": "a"}, headers={"authorization": f"Bearer {key}"})


def test_replicas_share_the_limits_of_a_key(store, keys):
    key = keys.pop("key")
    shared = keys | {"LLM_GATEWAY__LIMITS__STORE_URL": store.url}
    with Service(**shared) as one, Service(**shared) as other:
        left = [int(ask(service, key).headers["x-ratelimit-remaining-requests"]) for service in (one, other) * 3]
        assert left == [5, 4, 3, 2, 1, 0]
        for service in (one, other):
            assert is_error(ask(service, key), 429, "rate_limit_exceeded")


def test_a_store_that_is_gone_stops_nobody_and_is_told(store, keys):
    key = keys.pop("key")
    shared = keys | {"LLM_GATEWAY__LIMITS__STORE_URL": store.url, "LLM_GATEWAY__LIMITS__REPLICAS": "2"}
    with Service(**shared) as service:
        assert ask(service, key).status_code == 200
        store.stop()
        statuses = [ask(service, key).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]  # this replica's half of the six
        eventually(lambda: any(line.get("event") == "limits_degraded" for line in service.lines))


def test_where_it_is_wished_a_store_that_is_gone_lets_nobody_in(store, keys):
    key = keys.pop("key")
    shared = keys | {"LLM_GATEWAY__LIMITS__STORE_URL": store.url, "LLM_GATEWAY__LIMITS__WHEN_DOWN": "refuse"}
    with Service(**shared) as service:
        store.stop()
        answer = ask(service, key)
        assert is_error(answer, 503, "engine_unavailable")
        assert answer.headers["retry-after"]


def test_replicas_share_the_answers_of_a_key_and_do_without(store, keys):
    headers = {"authorization": f"Bearer {keys.pop('key')}"}
    shared = keys | {"LLM_GATEWAY__CACHE__STORE_URL": store.url}
    body = {"prompt": "Grüße 🙂 one two", "temperature": 0}

    def status(service):
        answer = service.client.post("/v1/generate", json=body, headers=headers)
        assert answer.json()["generated_text"] == body["prompt"] * 2
        return answer.headers["x-cache"]

    with Service(**shared) as one, Service(**shared) as other:
        assert [status(service) for service in (one, other, one)] == ["miss", "hit", "hit"]
        store.stop()
        assert status(other) == "miss"
        eventually(lambda: any(line.get("event") == "cache_degraded" for line in other.lines))
