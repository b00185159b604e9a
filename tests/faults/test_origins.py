"""Which web pages may call: none that nobody named."""

import subprocess
import sys

import pytest

from tests.support.observe import is_error, play

PAGE = "https://page.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


def allowed(answer) -> str | None:
    return answer.headers.get("access-control-allow-origin")


def test_no_page_may_read_an_answer_unless_it_is_named(service):
    for origin in (PAGE, "null", "http://localhost:3000", service.url):
        headers = {"origin": origin}
        assert allowed(service.client.get("/livez", headers=headers)) is None
        assert allowed(service.client.post("/v1/generate", json={"prompt": "a"}, headers=headers)) is None
        preflight = service.client.options("/v1/generate", headers=headers | PREFLIGHT)
        assert not [name for name in preflight.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("origin", "asked", "may"),
    [
        (PAGE, PREFLIGHT, True),
        (PAGE, PREFLIGHT | {"access-control-request-headers": "authorization, traceparent"}, True),
        (PAGE, PREFLIGHT | {"access-control-request-method": "GET"}, True),
        (PAGE, PREFLIGHT | {"access-control-request-headers": "x-api-key, x-stainless-lang, x-stainless-os"}, True),
        (PAGE, PREFLIGHT | {"access-control-request-method": "DELETE"}, False),
        (PAGE, PREFLIGHT | {"access-control-request-headers": "x-forged"}, False),
        ("https://evil.example", PREFLIGHT, False),
        ("https://page.example.evil.example", PREFLIGHT, False),
        ("https://evil-page.example", PREFLIGHT, False),
        ("http://page.example", PREFLIGHT, False),
        ("https://page.example:8443", PREFLIGHT, False),
        ("null", PREFLIGHT, False),
    ],
)
def test_a_preflight_allows_what_is_configured(edge, origin, asked, may):
    answer = edge.client.options("/v1/generate", headers={"origin": origin} | asked)
    assert answer.status_code < 500
    methods = answer.headers.get("access-control-allow-methods", "").split(", ")
    headers = answer.headers.get("access-control-allow-headers", "").split(", ")
    asked_headers = asked["access-control-request-headers"].split(", ")
    is_allowed = (
        allowed(answer) == origin
        and asked["access-control-request-method"] in methods
        and set(asked_headers) <= {header.lower() for header in headers}
    )
    assert is_allowed is may
    assert may or is_error(answer, 403, "origin_not_allowed")


def test_a_named_page_may_read_answers_their_headers_and_their_errors(edge):
    headers = {"origin": PAGE, "content-type": "application/json"}
    answers = {
        200: edge.client.post("/v1/generate", content='{"prompt":"a"}', headers=headers),
        400: edge.client.post("/v1/generate", content="{", headers=headers),
        404: edge.client.get("/nothing", headers=headers),
        405: edge.client.get("/v1/generate", headers=headers),
        413: edge.client.post("/v1/generate", content=b" " * 4_194_305, headers=headers),
        415: edge.client.post("/v1/generate", content="a", headers={"origin": PAGE, "content-type": "text/plain"}),
        503: edge.client.post(
            "/v1/generate",
            json={"model": "scripted", "prompt": play(fault="raise", after=-1, code="overloaded")},
            headers=headers,
        ),
    }
    for status, answer in answers.items():
        assert (answer.status_code, allowed(answer)) == (status, PAGE)
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"retry-after", "x-ignored-params", "x-request-id"} <= exposed


def test_a_stream_may_be_read_by_a_named_page(edge):
    with edge.client.stream(
        "POST", "/v1/generate", json={"prompt": "a", "stream": True}, headers={"origin": PAGE}
    ) as answer:
        assert allowed(answer) == PAGE
        assert b"[DONE]" in answer.read()


def test_another_page_gets_no_permission_with_its_answer(edge):
    answer = edge.client.get("/livez", headers={"origin": "https://evil.example"})
    assert (answer.status_code, allowed(answer)) == (200, None)


def test_a_page_whose_name_was_bound_to_this_address_is_refused(edge):
    answer = edge.client.get("/v1/models", headers={"host": "evil.example", "origin": "http://evil.example"})
    assert is_error(answer, 400, "bad_host")
    assert allowed(answer) is None


def test_credentials_for_every_origin_are_refused_at_the_start(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text('[cors]\norigins = ["*"]\ncredentials = true\n[engines.default]\nplugin = "echo"\n')
    check = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", str(file)], capture_output=True, text=True, check=False
    )
    assert check.returncode != 0
    assert "cors.credentials" in check.stdout + check.stderr


def test_a_foreign_page_may_not_make_a_browser_post_even_without_a_body(service):
    for origin in (PAGE, "null", "http://127.0.0.1:1"):
        headers = {"origin": origin, "content-type": "text/plain"}
        answer = service.client.post("/v1/models/echo/unload", headers=headers)
        assert is_error(answer, 403, "origin_not_allowed")
    assert service.client.get("/readyz").status_code == 200
    assert service.client.post("/v1/models/echo/load", headers={"origin": service.url}).status_code == 200
