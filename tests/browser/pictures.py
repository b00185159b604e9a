"""Take the pictures of the pages again: `just pictures` writes small PNGs beside `deploy/README.md`."""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, expect
from rich.console import Console
from rich.text import Text

from tests.support.chromium import launched
from tests.support.screen import CTRL_C, Terminal
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


def _first_start() -> list[Text]:
    """Start on a terminal with an empty cache; return it as it loads, and as it serves."""
    with tempfile.TemporaryDirectory() as cache:
        terminal = Terminal(XDG_CACHE_HOME=cache, NO_COLOR="", UV_RUN_RECURSION_DEPTH="1")
        try:
            terminal.wait_until(lambda lines: any("building" in line or "cannot listen" in line for line in lines), 900)
            if any("cannot listen" in line for line in terminal.lines):
                sys.exit("another service is at the usual port, which the picture shows; end it first")
            kept = [terminal.as_text()]
            while not any("╰" in line for line in terminal.lines):
                terminal.wait_until(lambda lines: any("%" in line or "╰" in line for line in lines), 900)
                if any(re.search(r" [3-8]\d%", line) for line in terminal.lines):
                    kept = [terminal.as_text()]
            terminal.type(CTRL_C)
            shown = [*kept, terminal.as_text()]
            terminal.end()
        finally:
            terminal.kill()
    return shown


async def _terminal(page: Page) -> None:
    windows = []
    for title, text in zip(("the first start", "once it serves"), await asyncio.to_thread(_first_start), strict=True):
        paper = Console(record=True, width=101, file=tempfile.TemporaryFile("w"))  # noqa: SIM115 - nothing reads it
        paper.print(text)
        drawn = paper.export_svg(title=title, unique_id=f"t{len(windows)}")
        windows.append(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))  # from another host
    await page.set_content(f"<style>body {{ margin: 8px }} svg {{ display: block }}</style>{''.join(windows)}")


async def _keep(page: Page, name: str, *, is_whole: bool = False) -> None:
    file = TARGET / f"{name}.png"
    await page.screenshot(path=file, full_page=is_whole)
    sys.stdout.write(f"{file.relative_to(Path.cwd())}: {file.stat().st_size} bytes\n")
    await page.close()


async def take_terminal() -> None:
    """Take the picture of the first start on a terminal, at the usual port."""
    async with launched() as browser:
        page = await browser.new_page(viewport={"width": 900, "height": 200})
        await _terminal(page)
        await _keep(page, "terminal", is_whole=True)


async def take() -> None:
    """Take all of them, with the built-in model."""
    TARGET.mkdir(exist_ok=True)
    await take_terminal()
    with Service(ENGINE="", ready=False) as service:
        service.wait_for("/readyz", seconds=300)
        async with launched() as browser:
            for view in (_chat, _completion, _operate):
                page = await browser.new_page(viewport=SIZE)
                await view(page, service.url)
                await _keep(page, view.__name__.strip("_"))


if __name__ == "__main__":
    asyncio.run(take())
