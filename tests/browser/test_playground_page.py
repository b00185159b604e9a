"""The playground as a page: what it weighs, what it may do, and whether all people can use it."""

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.axe import violations
from tests.support.observe import play

# The browser lives in this loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

BUDGET = 300_000
VIEWS = ("chat", "completion", "operate")


@pytest.fixture(autouse=True)
def _patient():
    expect.set_options(timeout=60_000)


async def shown(page: Page, stage, view: str) -> None:
    """Show a view with something in it."""
    await page.goto(f"{stage.url}/#{view}")
    if view == "chat":
        await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
        await page.get_by_label("Message", exact=True).fill(
            play(thoughts=["hm"], texts=["# A\n\n`b` [c](http://d)\n\n- e"])
        )
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.locator(".facts")).to_contain_text("s in all")
        await page.get_by_text("This request as code").click()
    elif view == "completion":
        await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
        await page.get_by_label("Text", exact=True).fill(play(texts=["one ", "two "]))
        await page.get_by_role("button", name="Complete").click()
        await expect(page.locator(".facts")).to_contain_text("s in all")
        await page.get_by_role("listbox").press("ArrowRight")
    else:
        await expect(page.get_by_role("rowheader", name="parrot")).to_be_visible()
        await expect(page.get_by_role("figure")).to_have_count(4)


@pytest.mark.parametrize("view", VIEWS)
async def test_axe_finds_nothing_to_mend_and_the_page_is_as_wide_as_its_screen(page: Page, stage, view):
    await shown(page, stage, view)
    for colours in ("light", "dark"):
        await page.emulate_media(color_scheme=colours)
        assert await violations(page) == [], colours
    for width in (390, 320):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
async def test_the_question_for_a_key_is_accessible(page: Page, stage):
    await page.goto(stage.url)
    await page.get_by_role("button", name="Key", exact=True).click()
    await expect(page.get_by_label("Key", exact=True)).to_be_focused()
    assert await violations(page) == []


@pytest.mark.slow
async def test_it_is_used_with_the_keyboard_alone(page: Page, stage):
    await page.goto(stage.url)
    await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    message = page.get_by_label("Message", exact=True)
    for _ in range(60):
        if await message.evaluate("field => field === document.activeElement"):
            break
        await page.keyboard.press("Tab")
    await page.keyboard.type(play(texts=["typed"]))
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Answer of scripted")).to_contain_text("typed")


@pytest.mark.slow
async def test_it_is_light_or_dark_as_it_is_told(page: Page, stage):
    await page.emulate_media(color_scheme="dark")
    await page.goto(stage.url)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(ground)
    await page.get_by_label("Colours").select_option("light")
    assert await page.evaluate(ground) != dark
    await page.reload()
    await expect(page.get_by_label("Colours")).to_have_value("light")
    assert await page.evaluate(ground) != dark


async def test_all_of_it_weighs_less_than_the_budget(browser: Browser, stage):
    page = await browser.new_page()
    session = await page.context.new_cdp_session(page)
    weights = []
    session.on("Network.loadingFinished", lambda event: weights.append(event["encodedDataLength"]))
    await session.send("Network.enable")
    await page.goto(stage.url)
    await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
    await page.wait_for_load_state("networkidle")
    assert len(weights) > 20
    assert 20_000 < sum(weights) < BUDGET
    await page.close()


async def test_no_script_but_those_of_the_service_runs(browser: Browser, stage):
    page = await browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    await page.goto(stage.url)
    trusted = """() => {
        try { document.body.insertAdjacentHTML("beforeend", "<b></b>"); return true } catch { return false }
    }"""
    assert await page.evaluate(trusted) is False
    assert await page.evaluate("fetch('http://elsewhere.example').then(() => true, () => false)") is False
    assert [text for text in refused if "Content Security Policy" in text or "TrustedHTML" in text]
    await page.close()
