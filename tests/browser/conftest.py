import json
import re
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.support.chromium import Watch, launched, watch
from tests.support.service import Service

ABLE = ["chat", "completion", "max_tokens", "temperature", "seed", "stop", "ignore_eos", "logprobs"]
ABLE += ["tools", "reasoning", "json_object", "choice"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for a file; each page of it knows nothing of the others."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that fails its test for an error on the console, an uncaught error, or a request to another host."""
    opened = await browser.new_page()
    opened.set_default_timeout(60_000)
    seen = watch(opened)
    yield opened
    await opened.close()
    assert seen == Watch()


@pytest.fixture(scope="session")
def stage() -> Iterator[Service]:
    """A service whose first model plays the script of its prompt, and whose second one repeats it."""
    with Service(
        ENGINE="scripted",
        LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS=json.dumps({"capabilities": ABLE}),
        LLM_GATEWAY__ENGINES__PARROT__PLUGIN="echo",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def parts(stage: Service) -> str:
    """The address of the playground's files, for tests that import one of them."""
    found = re.search(r'href="(playground/\w+)/page.css"', stage.client.get("/").text)
    assert found
    return f"{stage.url}/{found[1]}"
