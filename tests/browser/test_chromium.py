"""The browser that the other tests here look through sees what they rely on."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Page

from tests.support import pages
from tests.support.chromium import watch

# The browser lives in this loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = (
    b"<!doctype html><title>good</title><link rel=icon href=data:,><p id=text></p><script>text.append(6 * 7)</script>"
)
BAD = (
    b"<!doctype html><title>bad</title><link rel=icon href=data:,>"
    b"<script>console.error('said'); setTimeout(() => { document.title = 'worse'; throw Error('thrown') })</script>"
    b"<img src=http://elsewhere.example/picture.png>"
)


@pytest.fixture
def site() -> Iterator[str]:
    with pages.serving({"/good": pages.Page(GOOD), "/bad": pages.Page(BAD)}) as address:
        yield f"http://{address}"


async def test_a_page_runs_its_script(page: Page, site: str):
    await page.goto(f"{site}/good")
    assert await page.locator("#text").text_content() == "42"


async def test_errors_and_requests_to_other_hosts_are_recorded(browser: Browser, site: str):
    page = await browser.new_page()
    seen = watch(page)
    await page.goto(f"{site}/bad")
    await page.wait_for_function("document.title === 'worse'")
    assert any("said" in text for text in seen.console)
    assert [text for text in seen.uncaught if "thrown" in text]
    assert seen.strangers == ["http://elsewhere.example/picture.png"]
