"""The playground and the reference under a path of a site."""

import pytest
from playwright.async_api import Page, expect

from tests.support.service import Service

# The browser lives in this loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60_000


@pytest.fixture(scope="module")
def rooted():
    with Service(LLM_GATEWAY__SERVER__ROOT_PATH="/llm") as running:
        yield running


@pytest.mark.parametrize("front", ["/llm/", "/llm"])
async def test_the_playground_asks_and_writes_code_for_addresses_under_the_prefix(page: Page, rooted, front):
    expect.set_options(timeout=PATIENCE)
    asked = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(rooted.url)))
    await page.goto(f"{rooted.url}{front}")
    await page.get_by_label("Message", exact=True).fill("under a prefix")
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.get_by_label("Answer of echo")).to_contain_text("under a prefix")
    assert [url for url in asked if not url.startswith(("/llm/", "data:")) and url != front] == []
    await page.get_by_text("This request as code").click()
    for language in ("curl", "Python", "JavaScript"):
        await page.get_by_role("button", name=language).click()
        await expect(page.locator("#code")).to_contain_text(f"{rooted.url}/llm/v1")


@pytest.mark.parametrize("path", ["schema", "docs", "redoc"])
async def test_the_reference_is_shown_under_the_prefix(page: Page, rooted, path):
    asked = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(rooted.url)))
    await page.goto(f"{rooted.url}/llm/{path}")
    await expect(page.get_by_text("/v1/generate").first).to_be_attached(timeout=PATIENCE)
    assert [url for url in asked if not url.startswith(("/llm/", "data:", "blob:"))] == []
