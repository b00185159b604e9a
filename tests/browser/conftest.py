from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from tests.support.chromium import Watch, launched, watch


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launched() as running:
        yield running


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that fails its test for an error on the console, an uncaught error, or a request to another host."""
    opened = await browser.new_page()
    seen = watch(opened)
    yield opened
    assert seen == Watch()
