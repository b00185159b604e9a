"""A gateway under a path of a site: real nginx with TLS and HTTP/2, by the file that `deploy/` has for it."""

import json
import re
import shutil
import ssl
import subprocess
import time

import httpx
import pytest

from tests.support import certificate, proxy
from tests.support.observe import eventually
from tests.support.service import Service, free_port

PATIENCE = 60.0
ADDRESS = "203.0.113.9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if proxy.program() is None:
        pytest.skip(proxy.MISSING)
    if certificate.program() is None:
        pytest.skip(certificate.MISSING)
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def gateway():
    settings = {
        "LOG_LEVEL": "DEBUG",
        "LLM_GATEWAY__SERVER__ROOT_PATH": "/llm",
        "LLM_GATEWAY__SERVER__ALLOWED_HOSTS": '["localhost", "127.0.0.1"]',
        "LLM_GATEWAY__SERVER__FORWARDED_ALLOW": '["127.0.0.0/30"]',
        "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY": "0.1",
    }
    with Service(**settings) as service:
        yield service


@pytest.fixture(scope="module", params=[False, True], ids=["the prefix goes on", "the prefix is taken off"])
def site(request, folder, gateway):
    """The site's client, whose base is the gateway's prefix."""
    own = certificate.make(folder, "site", "site")
    port = free_port()
    text = proxy.under_prefix(port, gateway.port, strips=request.param)
    trusting = ssl.create_default_context(cafile=str(own.file))
    with (
        proxy.Proxy(port, (), text, own),
        httpx.Client(base_url=f"https://localhost:{port}/llm/", verify=trusting, timeout=PATIENCE) as client,
    ):
        yield client


def last_line(gateway, path):
    """Find the log's line of the request for `path` that came last."""
    lines = eventually(lambda: [line for line in gateway.requests() if line["path"].endswith(path)], PATIENCE)
    return lines[-1]


def test_every_address_that_the_pages_name_is_found_under_the_prefix(site):
    base = site.base_url.path
    for page in ("schema", "docs", "redoc", "schema/swagger"):
        text = site.get(page).text
        named = re.findall(r"""["'](/[^"']+)["']""", text)
        assert named
        assert all(address.startswith(base) for address in named)
        assert {site.get(address.removeprefix(base)).status_code for address in named} == {200}
    front = site.get("")
    assert f'<base href="{base}">' in front.text
    named = re.findall(r'(?:src|href)="(playground/[^"]+)"', front.text)
    assert {site.get(address).status_code for address in named} == {200}
    assert site.get("schema/openapi.json").json()["servers"] == [{"url": "/llm"}]
    assert site.get(str(site.base_url).rstrip("/")).status_code == 308


def test_a_page_of_the_site_may_post_and_another_sites_may_not(site):
    own = f"https://localhost:{site.base_url.port}"
    body = {"prompt": "a b", "max_new_tokens": 1}
    assert site.post("v1/generate", json=body, headers={"origin": own}).status_code == 200
    foreign = site.post("v1/generate", json=body, headers={"origin": "https://localhost:1"})
    assert foreign.json()["error"]["code"] == "origin_not_allowed"


def test_the_log_has_the_address_that_the_proxy_saw_and_none_that_a_client_made_up(site, gateway):
    site.get("v1/models/one", headers={"x-forwarded-for": f"6.6.6.6, {ADDRESS}"})
    # The client is on this machine, and so a trusted address itself: what is left of it counts, and nothing beyond.
    assert last_line(gateway, "/v1/models/one")["client"] == ADDRESS
    gateway.client.get("/v1/models/two", headers={"x-real-ip": ADDRESS, "forwarded": f"for={ADDRESS}"})
    assert last_line(gateway, "/v1/models/two")["client"] == "127.0.0.1"


def test_a_stream_arrives_as_it_is_made_over_http2_though_the_proxy_gathers_answers(site, folder):
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.run([curl, "-V"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("curl is not installed, or speaks no HTTP/2")
    body = json.dumps({"prompt": "a b c d e f g h i j k l", "stream": True, "return_full_text": False})
    command = [curl, "-sSN", "--http2", "--cacert", str(folder / "site.crt"), "--json", body, "-D", "-"]
    asking = subprocess.Popen([*command, f"{site.base_url}v1/generate"], stdout=subprocess.PIPE)
    with asking:
        arrived = [(time.monotonic(), line) for line in asking.stdout]
    assert arrived[0][1].startswith(b"HTTP/2 200")
    frames = [when for when, line in arrived if line.startswith(b"data: ")]
    assert len(frames) >= 12
    # Twelve words of 0.1 s each: gathered by the proxy they would come all at once, at the end.
    assert frames[-1] - frames[0] > 0.5
