"""The documentation in a real browser: it renders, says nothing on the console, and asks no other host."""

import pytest
from playwright.async_api import Page, expect

# The browser lives in this loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_scalar_shows_the_operations_and_leads_to_the_other_pages(page: Page, service):
    await page.goto(f"{service.url}/schema")
    await shows_generate(page)
    await leads_to_each_page(page)


async def test_swagger_ui_shows_the_operations_and_leads_to_the_other_pages(page: Page, service):
    await page.goto(f"{service.url}/docs")
    await shows_generate(page)
    await leads_to_each_page(page)


async def test_redoc_shows_the_operations_and_leads_to_the_other_pages(page: Page, service):
    await page.goto(f"{service.url}/redoc")
    await leads_to_each_page(page)
    await page.get_by_text("generate", exact=True).first.click()
    await shows_generate(page)


@pytest.mark.parametrize("path", ["/schema", "/docs", "/redoc"])
async def test_a_page_that_stays_open_asks_no_other_host(page: Page, service, path):
    """What gathers figures about its readers sends them later, or when the page is hidden."""
    await page.clock.install()
    await page.goto(f"{service.url}{path}")
    await expect(page.get_by_text("/v1/generate").first).to_be_attached(timeout=30_000)
    await page.clock.fast_forward("10:00")
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.evaluate("window.dispatchEvent(new Event('pagehide'))")
    await page.clock.run_for(10_000)
    await page.evaluate("fetch('/livez')")


async def shows_generate(page: Page) -> None:
    await expect(page.get_by_text("/v1/generate").first).to_be_visible(timeout=30_000)
    await expect(page.get_by_text("Generate", exact=True).first).to_be_visible(timeout=30_000)


async def leads_to_each_page(page: Page) -> None:
    for name, href in (("Scalar", "/schema"), ("Swagger UI", "/docs"), ("ReDoc", "/redoc")):
        link = page.get_by_role("link", name=name, exact=True)
        await expect(link).to_have_attribute("href", href, timeout=30_000)


async def test_swagger_ui_tries_operations_out(page: Page, service):
    await page.goto(f"{service.url}/docs")
    answers = {"operations-health-livez": '"alive"', "operations-generate-generate": '"The capital of France is'}
    for operation, answer in answers.items():
        block = page.locator(f"#{operation}")
        await block.click()
        await block.get_by_role("button", name="Try it out").click()
        await block.get_by_role("button", name="Execute").click()
        live = block.locator(".live-responses-table")
        await expect(live.locator(".response-col_status").last).to_contain_text("200", timeout=30_000)
        await expect(live).to_contain_text(answer)
