"""`POST /v1/replay/{request_id}`: for admins only, and an error by name for what cannot be run again."""

import pytest

from gateway.auth import KeyFile, Scope
from tests.support.service import Service

CONFIG = """
[engines.default]
plugin = "echo"

[engines.words]
plugin = "scripted"
settings = {{model = "words", script = {{texts = ["Once", " upon"]}}}}

[replay]
requests = {requests}

[auth]
file = "{keys}"
"""
GREEDY = {"model": "echo", "prompt": "one two three", "temperature": 0, "max_tokens": 5}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    def make(requests):
        folder = tmp_path_factory.mktemp("replay")
        file = KeyFile(folder / "keys.db")
        keys = {"one": file.create("one")[1]}
        both = frozenset({Scope.ADMIN, Scope.INFER})
        keys["admin"] = file.create("admin", scopes=both)[1]
        keys["bound"] = file.create("bound", scopes=both, models=("echo",))[1]
        (folder / "gateway.toml").write_text(CONFIG.format(keys=file.path, requests=requests))
        service = Service("--config", str(folder / "gateway.toml"))
        service.keys = keys
        return service

    return make


@pytest.fixture(scope="module")
def gateway(start):
    with start(3) as running:
        yield running


def post(gateway, path, body=None, key="admin"):
    return gateway.client.post(path, json=body, headers={"authorization": f"Bearer {gateway.keys[key]}"})


def ask(gateway, **changes):
    answer = post(gateway, "/v1/completions", GREEDY | changes, key="one")
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"], answer.json()


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    return error["message"]


def test_a_request_that_repeats_itself_is_the_same(gateway):
    request, answer = ask(gateway)
    replayed = post(gateway, f"/v1/replay/{request}")
    assert replayed.status_code == 200, replayed.text
    told = replayed.json()
    assert (told["object"], told["request"]) == ("replay", request)
    (one,) = told["answers"]
    assert (one["model"], one["repeatable"], one["same"], one["parting"]) == ("echo", True, True, None)
    assert one["then"] == one["now"]
    assert one["then"]["system_fingerprint"] == answer["system_fingerprint"]
    assert one["then"]["tokens"] == answer["usage"]["completion_tokens"]
    assert post(gateway, f"/v1/replay/{told['id']}").status_code == 404


def test_all_answers_of_a_request_are_made_again(gateway):
    request, _ = ask(gateway, prompt=["one two", "three four"])
    told = post(gateway, f"/v1/replay/{request}").json()
    assert [answer["same"] for answer in told["answers"]] == [True, True]


def test_another_key_is_shown_nothing(gateway):
    request, _ = ask(gateway)
    message = refused(post(gateway, f"/v1/replay/{request}", key="one"), 403, "insufficient_scope")
    assert "admin" in message


def test_an_admin_bound_to_models_is_shown_no_answer_of_another_one(gateway):
    request, _ = ask(gateway, model="words")
    message = refused(post(gateway, f"/v1/replay/{request}", key="bound"), 404, "model_not_found")
    assert message == "there is no model 'words' for this key; there is 'echo'"
    request, _ = ask(gateway)
    assert post(gateway, f"/v1/replay/{request}", key="bound").status_code == 200


def test_what_is_unknown_or_gone_is_404(gateway):
    refused(post(gateway, "/v1/replay/nothing"), 404, "not_found")
    request, _ = ask(gateway, prompt="first")
    for word in ("a", "b", "c"):
        ask(gateway, prompt=word)
    assert "unknown" in refused(post(gateway, f"/v1/replay/{request}"), 404, "not_found")


def test_what_is_drawn_anew_is_409_unless_it_is_wanted_all_the_same(gateway):
    request, _ = ask(gateway, model="words", temperature=0.9)
    assert "anyway=true" in refused(post(gateway, f"/v1/replay/{request}"), 409, "not_repeatable")
    (answer,) = post(gateway, f"/v1/replay/{request}?anyway=true").json()["answers"]
    assert (answer["repeatable"], answer["same"]) == (False, True)


def test_a_model_that_is_gone_is_told_and_not_a_bug(gateway):
    request, _ = ask(gateway, model="words")
    assert post(gateway, "/v1/models/words/unload").status_code == 200
    refused(post(gateway, f"/v1/replay/{request}"), 503, "engine_unavailable")
    assert post(gateway, "/v1/models/words/load").status_code == 200
    assert post(gateway, f"/v1/replay/{request}").status_code == 200


def test_nothing_is_recorded_unless_it_is_configured(start):
    with start(0) as gateway:
        request, _ = ask(gateway)
        assert "replay.requests is 0" in refused(post(gateway, f"/v1/replay/{request}"), 404, "not_found")
