"""A real Chromium for tests of pages, where the machine has one: Debian's, driven by Playwright."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, async_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",  # the sandbox needs rights that a container does not give
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a request to another host is seen, and goes nowhere
]


@dataclass
class Watch:
    """What went wrong on a page: errors on its console, errors that it did not catch, requests to other hosts."""

    console: list[str] = field(default_factory=list)
    uncaught: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def heed_console(self, message: ConsoleMessage) -> None:
        """Keep an error on the console."""
        if message.type == "error":
            self.console.append(f"{message.text} ({message.location['url']})")

    def heed_error(self, error: Error) -> None:
        """Keep an error that the page did not catch."""
        self.uncaught.append(str(error))

    def heed_request(self, request: Request) -> None:
        """Keep a request that leaves this machine; `data:` and the like have no host."""
        if urlsplit(request.url).hostname not in {None, "127.0.0.1"}:
            self.strangers.append(request.url)


def executable() -> str:
    """Find Chromium; skip the test where the machine has none."""
    return shutil.which("chromium") or pytest.skip("no chromium on PATH; Debian's package `chromium` brings it")


@contextlib.asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Run a headless Chromium."""
    path = executable()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


def watch(page: Page) -> Watch:
    """Record from now on what goes wrong on `page`."""
    seen = Watch()
    page.on("console", seen.heed_console)
    page.on("pageerror", seen.heed_error)
    page.on("request", seen.heed_request)
    return seen
