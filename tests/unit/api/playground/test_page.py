import re
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from deploy import vendor
from gateway.api import playground
from gateway.app import create_app
from gateway.config import Config, EngineSettings, ServerSettings

STATIC = Path(playground.__file__).parent / "static"
ROOT = Path(__file__).parents[4]
OWN = sorted(STATIC.glob("*.js"))


def client(**settings):
    config = Config(engines={"default": EngineSettings(plugin="echo")}, server=ServerSettings(**settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(config)), base_url="http://127.0.0.1")


def addresses(text):
    return re.findall(r'(?:src|href)="(playground/[^"]+)"', text)


async def test_the_front_is_the_page_and_names_nothing_outside_this_service():
    async with client() as asked:
        answer = await asked.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "//" not in answer.text
    assert "$" not in answer.text
    assert 'href="schema"' in answer.text


async def test_the_page_may_use_files_of_this_service_and_nothing_else():
    async with client() as asked:
        answer = await asked.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", answer.text) == []
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_file_that_the_page_names_is_there_and_may_be_kept_for_ever():
    async with client() as asked:
        found = addresses((await asked.get("/")).text)
        scripts = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")}
        assert {address.split("/", 2)[2] for address in found} == scripts | {"page.css"}
        for address in found:
            answer = await asked.get(f"/{address}")
            assert answer.status_code == 200, address
            assert "immutable" in answer.headers["cache-control"]
            assert answer.content == (STATIC / address.split("/", 2)[2]).read_bytes()
        fields = (await asked.get("/" + found[0].rsplit("/", 1)[0] + "/fields.json")).json()
        assert fields["/v1/completions"]["temperature"]["maximum"] == 2


@pytest.mark.parametrize(
    "path",
    [
        "app.js",
        "none/app.js",
        "{digest}/none.js",
        "{digest}/../page.py",
        "{digest}/index.html",
        "{digest}/%2e%2e/page.py",
    ],
)
async def test_what_is_no_file_of_this_release_is_an_error_like_any_other(path):
    async with client() as asked:
        digest = addresses((await asked.get("/")).text)[0].split("/")[1]
        answer = await asked.get("/playground/" + path.format(digest=digest))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_turned_off_the_front_leads_to_the_reference():
    async with client(playground=False) as asked:
        answer = await asked.get("/")
        assert (answer.status_code, answer.headers["location"]) == (302, "/schema")
        assert (await asked.get("/playground/x/app.js")).status_code == 404


async def test_with_both_turned_off_there_is_nothing_at_the_front():
    async with client(playground=False, docs=False) as asked:
        assert (await asked.get("/")).status_code == 404


async def test_without_the_reference_the_page_does_not_lead_there():
    async with client(docs=False) as asked:
        assert "schema" not in (await asked.get("/")).text


def test_the_libraries_are_as_npm_has_them():
    folder = ROOT / vendor.TARGET
    assert (folder / vendor.SUMS).read_text() == vendor.sums(folder)
    listed = {line.split("  ")[1] for line in vendor.sums(folder).splitlines() if not line.startswith("#")}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == listed | {
        vendor.SUMS
    }
    assert {f"{name}/LICENSE" for name in vendor.LIBRARIES} <= listed


def test_a_changed_library_would_be_noticed(tmp_path):
    folder = ROOT / vendor.TARGET
    for name, library in vendor.LIBRARIES.items():
        for place in library.files.values():
            file = tmp_path / name / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((folder / name / place).read_bytes() + b" ")
    told = vendor.sums(tmp_path)
    assert told != vendor.sums(folder)
    assert sha256((tmp_path / "marked" / "LICENSE").read_bytes()).hexdigest() in told


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_file_of_the_page_is_short_and_imports_only_what_is_beside_it(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert max(map(len, text.splitlines())) <= 120
    assert text.startswith("// ")
    imported = re.findall(r'from "([^"]+)"', text)
    assert [name for name in imported if not (path.parent / name).is_file()] == []
    assert not re.search(r"innerHTML|eval\(|https?://(?!www\.w3\.org)", text)


async def test_under_a_prefix_the_pages_addresses_are_too():
    async with client(root_path="/llm") as asked:
        page = (await asked.get("/llm/")).text
        policy = (await asked.get("/llm")).headers["content-security-policy"]
        found = {(await asked.get(f"/llm/{address}")).status_code for address in addresses(page)}
    assert '<base href="/llm/">' in page
    assert "base-uri 'self'" in policy
    assert found == {200}
