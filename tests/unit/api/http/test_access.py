"""Guards let through who may pass, and tell everybody else the same, whatever is wrong."""

from collections import Counter

import pytest
from litestar import Litestar, Request, Response, get
from litestar.testing import TestClient

from gateway.api.http.access import ADMIN, METRICS, PUBLIC, Access, caller_of
from gateway.api.http.problems import OWN_WORDS, Problem, to_problem
from gateway.auth import KeyFile, Keyring, Scope, new_key
from gateway.config import Config
from gateway.config.snapshot import CurrentConfig, Snapshot
from tests.support.clock import Clock


@get("/infer")
async def infer(request: Request) -> str:
    return caller_of(request.scope).name


@get("/admin", opt=ADMIN)
async def admin(request: Request) -> str:
    return caller_of(request.scope).name


@get("/metrics", opt=METRICS)
async def metrics(request: Request) -> str:
    return caller_of(request.scope).name


@get("/public", opt=PUBLIC)
async def public(request: Request) -> str:
    return caller_of(request.scope).name


def answer(_, error):
    problem = to_problem(error)
    return Response(
        OWN_WORDS.to_json(problem, ""),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/json",
    )


class Site:
    """An application behind guards, with a key for each scope."""

    def __init__(self, folder):
        self.clock = Clock()
        self.file = KeyFile(folder / "keys.db", self.clock)
        self.counted = Counter()
        keyring = Keyring(file=self.file, clock=self.clock)
        live = CurrentConfig(Snapshot(Config(), keyring))
        self.access = Access(live, lambda reason: self.counted.update([reason]), self.clock)
        app = Litestar(
            [infer, admin, metrics, public],
            middleware=[self.access.guard],
            exception_handlers={Exception: answer},
            openapi_config=None,
            logging_config=None,
        )
        self.client = TestClient(app)

    def key(self, name, **terms):
        return self.file.create(name, **terms)[1]

    def get(self, path="/infer", headers=()):
        return self.client.get(path, headers=headers)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    with site.client:
        yield site


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def test_without_keys_everybody_may_everything(site):
    for path in ("/infer", "/admin", "/metrics"):
        assert site.get(path).text == "anonymous"
    assert site.get(headers=bearer("some-old-key")).text == "anonymous"


def test_a_key_may_come_in_either_header_or_in_both(site):
    key = site.key("shop")
    for headers in (
        bearer(key),
        {"x-api-key": key},
        {"authorization": f"bearer  {key}"},
        {**bearer(key), "x-api-key": key},
    ):
        found = site.get(headers=headers)
        assert (found.status_code, found.text) == (200, "shop")


def test_each_guard_asks_for_its_scope(site):
    keys = {scope: site.key(scope, scopes=frozenset({scope})) for scope in Scope}
    paths = {Scope.INFER: "/infer", Scope.ADMIN: "/admin", Scope.METRICS: "/metrics"}
    for held, key in keys.items():
        for asked, path in paths.items():
            found = site.get(path, bearer(key))
            if held in (asked, Scope.ADMIN):
                assert found.status_code == 200
            else:
                assert found.status_code == 403
                assert found.json()["error"]["code"] == "insufficient_scope"


def test_all_that_is_wrong_gets_one_answer(site):
    gone, old = site.key("gone"), site.key("old", seconds=1)
    site.file.revoke("gone")
    site.clock.advance(2)
    wrong = [gone, old, new_key()[1], gone[:-1], "x", "x" * 2_000, "' OR 1=1 --"]
    found = [site.get(headers=bearer(key)) for key in wrong]
    site.clock.advance(60)
    found += [site.get(headers={"authorization": value}) for value in ("Basic Zm9vOmJhcg==", "Bearer", "", gone)]
    assert {(answer.status_code, answer.content) for answer in found} == {(401, found[0].content)}
    assert {answer.headers["www-authenticate"] for answer in found} == {"Bearer"}
    assert found[0].json()["error"]["code"] == "invalid_api_key"
    assert site.counted["revoked"] == site.counted["expired"] == 1
    assert site.counted["malformed"] > 1


def test_who_guesses_is_slowed_down_and_a_right_key_passes_all_the_same(site):
    key = site.key("shop")
    codes = [site.get(headers=bearer(new_key()[1])).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert site.get(headers=bearer(new_key()[1])).headers["retry-after"] == "6"
    assert site.get(headers=bearer(key)).status_code == 200
    site.clock.advance(6)
    assert site.get(headers=bearer(new_key()[1])).status_code == 401


def test_no_key_at_all_is_told_how_to_send_one(site):
    site.key("shop")
    found = site.get()
    assert (found.status_code, found.json()["error"]["code"]) == (401, "missing_api_key")
    assert found.headers["www-authenticate"] == "Bearer"
    assert site.counted == {"missing": 1}


def test_two_different_keys_at_once_are_refused(site):
    one, two = site.key("one"), site.key("two")
    found = site.get(headers={**bearer(one), "x-api-key": two})
    assert (found.status_code, found.json()["error"]["code"]) == (400, "duplicate_header")
    for name, value in ((b"authorization", f"Bearer {one}".encode()), (b"x-api-key", one.encode())):
        scope = {
            "query_string": b"",
            "client": None,
            "headers": [(name, value), (name, value)],
        }  # httpx would join the two
        with pytest.raises(Problem) as refused:
            site.access.caller(scope)
        assert refused.value.code == "duplicate_header"
    assert site.counted == {"duplicate": 3}


@pytest.mark.parametrize("query", ["api_key=KEY", "a=b&api-key=x", "access_token=x", "x=KEY", "APIKEY=x"])
def test_a_key_in_a_url_is_refused_even_where_it_is_right(site, query):
    key = site.key("shop")
    found = site.get(f"/infer?{query.replace('KEY', key)}", bearer(key))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "key_in_url")
    assert key not in found.text


def test_an_innocent_query_is_none_of_our_business(site):
    assert site.get("/infer?keyboard=1&tokens=5").status_code == 200


def test_a_public_route_asks_for_no_key_and_has_no_caller(site):
    site.key("shop")
    assert site.get("/public").status_code == 500
