"""Take the pictures of the pages again: `just pictures` writes small PNGs beside `deploy/README.md`."""

import asyncio
import sys
from pathlib import Path

from playwright.async_api import Page, expect

from tests.support.chromium import launched
from tests.support.service import Service

TARGET = Path(__file__).resolve().parents[2] / "deploy" / "pictures"
SIZE = {"width": 1200, "height": 900}
QUESTION = "What is the capital of France, and what is it known for?"


async def _chat(page: Page, url: str) -> None:
    await page.goto(f"{url}/")
    await page.get_by_label("temperature", exact=True).fill("0")
    await page.get_by_label("max_completion_tokens", exact=True).fill("96")
    await page.get_by_label("Message", exact=True).fill(QUESTION)
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.locator(".facts")).to_contain_text("s in all", timeout=60_000)


async def _completion(page: Page, url: str) -> None:
    await page.goto(f"{url}/#completion")
    await page.get_by_label("temperature", exact=True).fill("0.7")
    await page.get_by_label("seed", exact=True).fill("7")
    await page.get_by_role("button", name="Complete").click()
    await expect(page.locator(".facts")).to_contain_text("s in all", timeout=60_000)
    for _ in range(5):
        await page.get_by_role("listbox").press("ArrowRight")
    await expect(page.locator(".token table")).to_be_visible()


async def _operate(page: Page, url: str) -> None:
    await page.goto(f"{url}/#operate")
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64, "ignore_eos": True, "stream": True}
    ask = """body => void fetch("v1/chat/completions", {
        method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body),
    }).then(answer => answer.text())"""
    for number in range(40):
        await page.evaluate(ask, body | {"seed": number})
        await asyncio.sleep(1)


async def take() -> None:
    """Take all of them, with the built-in model."""
    TARGET.mkdir(exist_ok=True)
    with Service(ENGINE="", ready=False) as service:
        service.wait_for("/readyz", seconds=300)
        async with launched() as browser:
            for view in (_chat, _completion, _operate):
                page = await browser.new_page(viewport=SIZE)
                await view(page, service.url)
                file = TARGET / f"{view.__name__.strip('_')}.png"
                await page.screenshot(path=file)
                sys.stdout.write(f"{file.relative_to(Path.cwd())}: {file.stat().st_size} bytes\n")
                await page.close()


if __name__ == "__main__":
    asyncio.run(take())
