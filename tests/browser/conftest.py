from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.support.chromium import Watch, launched, watch


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for a file; each page of it knows nothing of the others."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that fails its test for an error on the console, an uncaught error, or a request to another host."""
    opened = await browser.new_page()
    seen = watch(opened)
    yield opened
    await opened.close()
    assert seen == Watch()
