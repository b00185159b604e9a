"""Accessibility by axe-core, run inside a page of Chromium."""

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page


async def violations(page: Page) -> list[str]:
    """Name what axe finds wrong on a page: each rule, and each element that breaks it."""
    found = await Axe().run(page)
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]
