import pytest

from gateway.api.http.cors import check_origin
from gateway.api.http.problems import Problem
from gateway.config import CorsSettings

PAGE = "https://page.example"
OPEN = CorsSettings(origins=(PAGE, "https://*.pages.example"))
# What the JavaScript SDKs of OpenAI and Anthropic ask for.
SDKS = (
    (
        "authorization,content-type,openai-organization,openai-project,user-agent,x-stainless-arch,x-stainless-lang,"
        "x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
        "x-stainless-runtime-version,x-stainless-timeout"
    ),
    (
        "anthropic-dangerous-direct-browser-access,anthropic-version,anthropic-beta,content-type,x-api-key,"
        "x-stainless-helper-method,x-stainless-retry-count,x-stainless-timeout"
    ),
)


def check(method="POST", settings=OPEN, **headers):
    pairs = {"host": "localhost", "origin": PAGE} | {name.replace("_", "-"): text for name, text in headers.items()}
    scope = {"method": method, "headers": [(name.encode(), text.encode()) for name, text in pairs.items()]}
    check_origin(scope, settings)


@pytest.mark.parametrize("origin", [PAGE, "https://a.pages.example", "http://localhost", "https://localhost", ""])
def test_a_page_that_is_named_and_the_services_own_may_post(origin):
    check(origin=origin)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://a.pages.example.evil", "http://page.example", "null"]
)
def test_a_page_that_is_not_named_may_only_ask_what_changes_nothing(origin):
    with pytest.raises(Problem) as refused:
        check(origin=origin)
    assert (refused.value.code, refused.value.status) == ("origin_not_allowed", 403)
    for method in ("GET", "HEAD"):
        check(method, origin=origin)


@pytest.mark.parametrize("headers", SDKS)
def test_the_sdks_may_be_used_by_a_page(headers):
    check("OPTIONS", access_control_request_method="POST", access_control_request_headers=headers)


@pytest.mark.parametrize(
    ("headers", "setting"),
    [
        ({"origin": "https://evil.example"}, "cors.origins"),
        ({"access_control_request_method": "DELETE"}, "cors.methods"),
        ({"access_control_request_headers": "content-type, x-forged"}, "cors.headers"),
    ],
)
def test_a_preflight_that_fails_is_told_the_setting(headers, setting):
    with pytest.raises(Problem, match=setting) as refused:
        check("OPTIONS", **headers)
    assert refused.value.status == 403


def test_everything_may_be_allowed():
    settings = CorsSettings(origins=("*",), methods=("*",), headers=("*",))
    asked = {"access_control_request_method": "DELETE", "access_control_request_headers": "x-forged"}
    check("OPTIONS", settings, origin="https://any.example", **asked)


def test_where_no_page_may_call_a_preflight_is_left_to_the_route():
    check("OPTIONS", CorsSettings(), access_control_request_method="DELETE")
