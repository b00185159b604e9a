from types import SimpleNamespace

import pytest

from gateway.api.http.directions import direct, wrong_content_type
from gateway.api.http.problems import Problem, to_problem
from gateway.limits.errors import RequestsExceeded

PATHS = (
    "/",
    "/livez",
    "/v1/models",
    "/v1/models/{name}",
    "/v1/chat/completions",
    "/v1/messages",
    "/schema",
    "/schema/scalar",
)


def missed(path="/", method="GET", code="not_found", paths=PATHS, **headers):
    app = SimpleNamespace(routes=[SimpleNamespace(path=path) for path in paths])
    scope = {"path": path, "method": method, "litestar_app": app}
    return direct(Problem(code, headers=headers), scope).message


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("/v1/v1/models", "/v1 is there twice: the base URL ends in /v1 already"),
        ("/v1", "GET /v1/models"),
        ("/v1/", "GET /v1/models"),
        ("/api/tags", "GET /v1/models"),
        ("/api/chat", "Ollama's API"),
        ("/api/embed", "POST /v1/embeddings"),
        ("/v1beta/models/x", "Gemini's API"),
        ("/v1/audio/speech", "of OpenAI's API"),
        ("/v1/uploads/upload-1", "POST /v1/files"),
        ("/v1/messages/batches/1", "in batches"),
        ("/generate", "POST /v1/generate"),
        ("/messages", "did you mean /v1/messages?"),
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
        ("/V1/models", "did you mean /v1/models?"),
        ("/lives", "did you mean /livez?"),
        ("/apiary", "/schema lists all paths"),
        ("/" + "x" * 30_000, "/schema lists all paths"),
    ],
)
def test_a_path_that_is_none_is_told_what_to_ask_instead(path, step):
    message = missed(path)
    assert message.startswith("there is nothing at this path; ")
    assert step in message
    assert len(message) < 200


def test_no_path_leads_to_documentation_that_is_turned_off():
    paths = [path for path in PATHS if not path.startswith("/schema")]
    assert "/schema" not in missed("/apiary", paths=paths)
    assert "GET /v1/models" in missed("/schema", paths=paths)


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        ("OPTIONS, POST", "GET is not taken here; send POST"),
        ("DELETE, OPTIONS, HEAD, PUT", "GET is not taken here; send DELETE or PUT"),
    ],
)
def test_a_method_that_is_not_taken_is_told_those_that_are(allow, message):
    assert missed(code="method_not_allowed", allow=allow) == message


def test_a_problem_that_says_more_than_its_code_stays():
    told = Problem("not_found", "there is no such request of yours")
    assert direct(told, {"path": "/v1"}) is told


@pytest.mark.parametrize(
    ("media", "found"),
    [
        (b"application/x-www-form-urlencoded", "the content type is application/x-www-form-urlencoded; "),
        (b"text/plain; charset=utf-8", "the content type is text/plain; "),
        (b"", "there is no content type; "),
    ],
)
def test_a_content_type_is_answered_with_the_right_one(media, found):
    assert wrong_content_type(media).message == f"{found}send application/json (curl --json)"


def test_who_asks_too_often_is_told_when_to_try_again():
    problem = to_problem(RequestsExceeded("this key may make 3 requests a minute", retry_after=19.5))
    assert problem.message == "this key may make 3 requests a minute; try again in 20 s"
