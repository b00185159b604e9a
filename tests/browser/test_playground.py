"""The playground in a real browser: chats, completions, and what becomes of them."""

import asyncio
import json
import os
import shutil
import subprocess
import sys

import pytest
from playwright.async_api import Page, expect

from tests.support.observe import play

# The browser lives in this loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60_000
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(autouse=True)
def _patient():
    expect.set_options(timeout=PATIENCE)


async def opened(page: Page, stage, view="chat") -> None:
    await page.goto(f"{stage.url}/#{view}")
    await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")


async def say(page: Page, text: str) -> None:
    await page.get_by_label("Message", exact=True).fill(text)
    await page.get_by_role("button", name="Send", exact=True).click()


def answers(page: Page, model="scripted"):
    return page.get_by_label(f"Answer of {model}")


def bodies(page: Page) -> list[dict]:
    """Collect the bodies that the page posts from now on."""
    found: list[dict] = []
    page.on("request", lambda request: found.append(json.loads(request.post_data)) if request.post_data else None)
    return found


async def finished(page: Page, answer) -> None:
    await expect(answer.locator(".facts").last).to_contain_text("s in all")


async def test_an_answer_is_seen_to_arrive_before_it_is_finished_and_can_be_stopped(page: Page, stage):
    await opened(page, stage)
    await say(page, play(texts=["one ", "two "], fault="hang", after=2))
    await expect(answers(page)).to_contain_text("one two")
    assert len(stage.client.get("/v1/requests").json()["data"]) == 1
    await page.get_by_role("button", name="Stop").click()
    await expect(answers(page).locator(".facts")).to_contain_text("stopped")
    for _ in range(600):
        if not stage.client.get("/v1/requests").json()["data"]:
            break
        await asyncio.sleep(0.1)
    assert stage.client.get("/v1/requests").json()["data"] == []


@pytest.mark.slow
async def test_the_pieces_of_a_stream_are_shown_one_after_the_other(page: Page, stage):
    await opened(page, stage)
    await page.evaluate(
        """() => {
            window.lengths = new Set();
            const look = () => lengths.add(document.querySelector('.answer .prose')?.textContent.trim().length ?? 0);
            new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
        }"""
    )
    await say(page, play(texts=["tick "] * 6, delay=0.2))
    await finished(page, answers(page))
    assert len(await page.evaluate("[...lengths]")) >= 4


@pytest.mark.slow
async def test_escape_stops_and_enter_sends(page: Page, stage):
    await opened(page, stage)
    message = page.get_by_label("Message", exact=True)
    await message.fill(play(texts=["on "], fault="hang", after=1))
    await message.press("Enter")
    await expect(answers(page)).to_contain_text("on")
    await expect(message).to_have_value("")
    await message.press("Escape")
    await expect(answers(page).locator(".facts")).to_contain_text("stopped")


async def test_an_answer_says_how_fast_it_was(page: Page, stage):
    await opened(page, stage)
    await say(page, play(texts=["a ", "b ", "c "], delay=0.05))
    facts = answers(page).locator(".facts")
    await expect(facts).to_contain_text("+ 3 tokens")
    await expect(facts).to_contain_text("tokens/s")
    await expect(facts).to_contain_text("first after")


async def test_a_failed_stream_says_why_and_keeps_what_came(page: Page, stage):
    await opened(page, stage)
    await say(page, play(texts=["half ", "whole"], fault="raise", after=1, message="the belt tore"))
    await expect(answers(page)).to_contain_text("half")
    await expect(answers(page).get_by_role("alert")).to_contain_text("the belt tore")
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


async def test_what_was_said_can_be_edited_and_tried_again(page: Page, stage):
    await opened(page, stage)
    sent = bodies(page)
    await say(page, play(texts=["first"]))
    await finished(page, answers(page))
    await say(page, play(texts=["second"]))
    await expect(answers(page)).to_have_count(2)
    await finished(page, answers(page).last)
    assert [message["role"] for message in sent[-1]["messages"]] == ["user", "assistant", "user"]
    assert sent[-1]["messages"][1]["content"] == "first"
    await page.get_by_role("button", name="Try again").click()
    await expect(answers(page).last).to_contain_text("second")
    await finished(page, answers(page).last)
    await page.get_by_role("button", name="Edit").first.click()
    await page.get_by_label("Edit the message").fill(play(texts=["anew"]))
    await page.locator(".question").get_by_role("button", name="Send").click()
    await expect(answers(page)).to_have_count(1)
    await expect(answers(page)).to_contain_text("anew")
    await finished(page, answers(page))
    assert [len(body["messages"]) for body in sent] == [1, 3, 3, 1]


async def test_the_form_has_what_the_model_honours_and_its_values_are_sent(page: Page, stage):
    await opened(page, stage)
    sent = bodies(page)
    told = stage.client.get("/v1/models/scripted/capabilities").json()["routes"]["chat.completions"]
    settings = page.locator(".settings")
    for name in ("temperature", "seed", "stop", "max_completion_tokens"):
        assert name in told["honoured"]
        await expect(settings.get_by_label(name, exact=True)).to_be_attached()
    for name in ("top_p", "repetition_penalty"):
        assert name in told["refused"]
        await expect(settings.get_by_label(name, exact=True)).to_have_count(0)
    await settings.get_by_label("temperature", exact=True).fill("0.5")
    await settings.get_by_label("max_completion_tokens", exact=True).fill("2")
    await settings.get_by_label("stop", exact=True).fill("END\n\\n")
    await settings.get_by_label("System prompt").fill("Be brief.")
    await settings.get_by_text("More parameters").click()
    await settings.get_by_label("ignore_eos", exact=True).select_option("true")
    await say(page, play(texts=["x "]))
    await expect(answers(page).locator(".facts")).to_contain_text("cut off")
    assert sent[0]["temperature"] == 0.5
    assert sent[0]["max_completion_tokens"] == 2
    assert sent[0]["stop"] == ["END", "\n"]
    assert sent[0]["ignore_eos"] is True
    assert sent[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent[0].keys() == {
        *("model", "messages", "stream", "stream_options"),
        *("temperature", "max_completion_tokens", "stop", "ignore_eos"),
    }


@pytest.mark.slow
async def test_thoughts_are_folded(page: Page, stage):
    await opened(page, stage)
    await say(page, play(thoughts=["hm, "], texts=["yes"]))
    await finished(page, answers(page))
    await expect(answers(page).get_by_text("hm,")).to_be_hidden()
    await answers(page).get_by_text("What it thought").click()
    await expect(answers(page).get_by_text("hm,")).to_be_visible()


async def test_a_call_is_shown_and_its_result_sent(page: Page, stage):
    await opened(page, stage)
    sent = bodies(page)
    await page.get_by_role("button", name="Put in an example").click()
    await say(page, play(texts=[], calls=[{"name": "get_weather", "arguments": ['{"city": ', '"Paris"}']}]))
    await expect(answers(page)).to_contain_text('get_weather({"city": "Paris"})')
    await page.get_by_label("Result of get_weather").fill("sunny")
    await page.get_by_role("button", name="Send results").click()
    await expect(answers(page).locator(".facts")).to_have_count(2)
    call, result = sent[1]["messages"][-2:]
    assert call["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert result == {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "sunny"}


@pytest.mark.slow
async def test_an_answer_can_be_held_to_a_schema(page: Page, stage):
    await opened(page, stage)
    await page.get_by_label("Model", exact=True).select_option("echo")
    await page.get_by_label("Held to").select_option("json_schema")
    await page.get_by_label("JSON of a schema").fill(json.dumps(SCHEMA))
    await say(page, "Where?")
    await finished(page, answers(page, "echo"))
    text = await answers(page, "echo").locator(".prose").text_content()
    assert json.loads(text).keys() == {"city"}


@pytest.mark.slow
async def test_what_is_no_json_is_named_before_anything_is_sent(page: Page, stage):
    await opened(page, stage)
    sent = bodies(page)
    await page.get_by_label("Functions, as a JSON list").fill("[{")
    await say(page, "hello")
    await expect(page.locator(".talk > .error")).to_contain_text("tools:")
    assert sent == []


@pytest.mark.slow
async def test_two_models_answer_side_by_side(page: Page, stage):
    await opened(page, stage)
    sent = bodies(page)
    await page.get_by_label("Compare with").select_option("echo")
    await say(page, play(texts=["scripted words"]))
    await finished(page, answers(page))
    await finished(page, answers(page, "echo"))
    await say(page, play(texts=["more"]))
    await expect(answers(page)).to_have_count(2)
    await finished(page, answers(page).last)
    await finished(page, answers(page, "echo").last)
    said = {body["model"]: body["messages"][1]["content"] for body in sent[2:]}
    assert said["scripted"] == "scripted words"
    assert said["echo"] != said["scripted"]


@pytest.mark.slow
async def test_a_conversation_is_kept_in_the_browser_and_only_there(page: Page, stage):
    await opened(page, stage)
    await say(page, play(texts=["kept words"]))
    await finished(page, answers(page))
    await page.reload()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
    await expect(answers(page)).to_have_count(0)
    await page.locator(".list li").get_by_role("button").first.click()
    await expect(answers(page)).to_contain_text("kept words")
    await page.locator(".list li").get_by_role("button", name="Delete").click()
    await page.reload()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
    await expect(page.locator(".list li")).to_have_count(0)
    assert await page.evaluate("sessionStorage.length") == 0


async def test_what_a_model_writes_is_text_and_never_markup(page: Page, stage):
    await opened(page, stage)
    evil = "<img src=x onerror=\"document.title='x'\"> [go](javascript:alert(1)) ![p](http://elsewhere.example/p.png)"
    await say(page, play(texts=[f"**bold** `code`\n\n{evil}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n- two\n"]))
    await finished(page, answers(page))
    prose = answers(page).locator(".prose")
    await expect(prose.locator("strong")).to_have_text("bold")
    await expect(prose.locator("td")).to_have_text(["1", "2"])
    await expect(prose.locator("li")).to_have_text(["one", "two"])
    await expect(prose.locator("img, script")).to_have_count(0)
    await expect(prose).to_contain_text("onerror")
    assert await prose.locator("a").evaluate_all("links => links.map(({href}) => new URL(href).protocol)") == ["http:"]


async def test_the_tokens_of_a_completion_say_how_likely_they_were(page: Page, stage):
    await opened(page, stage, "completion")
    await page.get_by_label("Text", exact=True).fill(play(texts=["one ", "two "], logprob=-1.0))
    await page.get_by_role("button", name="Complete").click()
    tokens = page.get_by_role("listbox").get_by_role("option")
    await expect(page.locator(".facts")).to_contain_text("s in all")
    await expect(tokens).to_have_text(["one ", "two "])
    await tokens.first.hover()
    await expect(page.locator(".token")).to_contain_text("36.8 %")
    await page.get_by_role("listbox").press("ArrowRight")
    await expect(page.locator(".token")).to_contain_text('"two "')


@pytest.mark.slow
@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
async def test_the_code_of_a_request_runs(page: Page, stage, tmp_path, language):
    if language == "JavaScript" and not shutil.which("node"):
        pytest.skip("no node on PATH; Debian's package `nodejs` brings it")
    await opened(page, stage)
    await page.get_by_label("Message", exact=True).fill(play(texts=["it's ", "so"]))
    await page.get_by_label("temperature", exact=True).fill("0.5")
    await page.get_by_text("More parameters").click()
    await page.get_by_label("ignore_eos", exact=True).select_option("false")
    await page.get_by_text("This request as code").click()
    await page.get_by_role("button", name=language).click()
    begin = {"curl": "curl -N", "Python": "from openai", "JavaScript": "const answer"}[language]
    await expect(page.locator("#code")).to_contain_text(begin)
    code = await page.locator("#code").text_content()
    file = tmp_path / "request.mjs"
    file.write_text(code)
    command = {"curl": ["bash", file], "Python": [sys.executable, file], "JavaScript": ["node", file]}[language]
    done = subprocess.run(  # noqa: ASYNC221 - the page waits for nothing meanwhile
        command, capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout if language == "curl" else done.stdout.strip()
    assert ('"so"' in said) if language == "curl" else said == "it's so"
