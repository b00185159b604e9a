"""The operator's view: engines, requests in flight, charts; and the files that compute for it, in a real browser."""

import json

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from gateway.auth import KeyFile
from tests.support.observe import play
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service

# The browser lives in this loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = {"model": "scripted", "prompt": play(texts=["tick "], fault="hang", after=1), "return_full_text": False}
EXPOSITION = r"""# HELP llm_gateway_x_total A count.
# TYPE llm_gateway_x_total counter
llm_gateway_x_total{model="a b",note="say \"hi\"\\ \n"} 3.0
llm_gateway_x_total{model="c"} 4e2
plain 7
wait_bucket{le="0.1",model="a"} 1
wait_bucket{le="0.1",model="b"} 1
wait_bucket{le="+Inf",model="a"} 2
wait_bucket{le="+Inf",model="b"} 2
"""


@pytest.fixture(autouse=True)
def _patient():
    expect.set_options(timeout=60_000)


async def opened(page: Page, service) -> None:
    await page.goto(f"{service.url}/#operate")
    await expect(page.get_by_role("heading", name="Engines and models")).to_be_visible()


def row(page: Page, engine: str):
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=engine, exact=True))


async def test_an_engine_can_be_unloaded_and_loaded(page: Page, stage):
    await opened(page, stage)
    await expect(row(page, "parrot")).to_contain_text("ready")
    await page.get_by_role("button", name="unload parrot").click()
    await expect(page.get_by_role("button", name="load parrot", exact=True)).to_be_enabled()
    await expect(page.get_by_role("status")).to_contain_text("parrot is unloaded")
    health = stage.client.get("/v1/health").json()["engines"]
    assert [engine["loaded"] for engine in health] == [True, False]
    await page.get_by_role("button", name="load parrot", exact=True).click()
    await expect(page.get_by_role("button", name="unload parrot")).to_be_enabled()
    await expect(row(page, "parrot")).to_contain_text("ready")


async def test_requests_in_flight_are_shown_and_can_be_cancelled(page: Page, stage):
    await opened(page, stage)
    with RawHTTP(stage.port) as held:
        held.send(post(LONG | {"stream": True})).read_until(b"tick")
        (live,) = stage.client.get("/v1/requests").json()["data"]
        shown = row(page, live["id"])
        await expect(shown).to_contain_text("decode")
        await page.get_by_role("button", name=f"Cancel request {live['id']}").click()
        await expect(page.get_by_role("status")).to_contain_text("is cancelled")
        assert b"cancelled" in held.read_until(b"}}")
    await expect(shown).to_have_count(0)


async def test_the_charts_show_what_was_measured(page: Page, stage):
    await opened(page, stage)
    charts = page.get_by_role("figure")
    await expect(charts).to_have_count(4)
    await expect(charts.nth(1).locator("polyline")).to_have_count(1)
    stage.generate(model="scripted", prompt=play(texts=["a "] * 50))
    assert stage.client.post("/v1/generate", json={}).status_code == 400
    figures = {0: r"(\d+ ms|\d+\.\d s)", 1: r"tokens/s [\d.]*[1-9]", 3: r"4xx [\d.]*[1-9]"}
    for number, figure in figures.items():
        label = charts.nth(number).get_by_role("img")
        await page.wait_for_function(
            "([label, figure]) => new RegExp(figure).test(label.getAttribute('aria-label'))",
            arg=[await label.element_handle(), figure],
        )


@pytest.mark.slow
async def test_the_service_is_not_asked_while_the_view_is_away(page: Page, stage):
    await opened(page, stage)
    await expect(row(page, "parrot")).to_be_visible()
    await page.get_by_role("link", name="Chat", exact=True).click()
    await expect(page.get_by_label("Message", exact=True)).to_be_visible()
    await page.clock.install()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    await page.clock.run_for(10_000)
    assert asked == []


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service with keys: one to ask models, one that may all."""
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.db")
    keys = {"user": file.create("user")[1], "admin": file.create("admin", scopes=frozenset({"admin"}))[1]}
    with Service(LLM_GATEWAY__AUTH__FILE=str(file.path), METRICS_ENABLED="false") as running:
        running.keys = keys
        yield running


async def test_a_key_is_asked_for_and_kept_for_the_tab(browser, locked):
    page = await browser.new_page()
    told = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    await page.goto(locked.url)
    dialog = page.get_by_role("dialog", name="API key")
    await expect(dialog).to_contain_text("an API key is needed")
    await page.get_by_label("Key", exact=True).fill("llmg_wrong")
    await page.get_by_role("button", name="Use").click()
    await expect(dialog).to_contain_text("is not valid")
    await page.get_by_label("Key", exact=True).fill(locked.keys["user"])
    await page.get_by_role("button", name="Use").click()
    await expect(dialog).to_be_hidden()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("echo")
    await page.get_by_label("Message", exact=True).fill("one two")
    await page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.get_by_label("Answer of echo")).to_contain_text("one two")
    kept = await page.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
    assert [locked.keys["user"] in text for text in kept] == [False, True]
    await page.get_by_text("This request as code").click()
    await expect(page.locator("#code")).to_contain_text("$LLM_GATEWAY_KEY")
    assert locked.keys["user"] not in await page.locator("#code").text_content()
    assert [text for text in told if "401" not in text] == []
    await page.close()


@pytest.mark.slow
async def test_what_a_key_may_not_do_is_said(browser, locked):
    page = await browser.new_page()
    await page.add_init_script(f"sessionStorage.setItem('llm-gateway.key', {json.dumps(locked.keys['user'])})")
    await opened(page, locked)
    await expect(page.locator(".operate")).to_contain_text("it needs the scope 'metrics'")
    await page.get_by_role("button", name="unload default").click()
    await expect(page.get_by_role("status")).to_contain_text("it needs the scope 'admin'")
    await page.close()


@pytest.mark.slow
async def test_a_key_that_is_not_given_is_asked_for_once(browser, locked):
    page = await browser.new_page()
    await page.goto(f"{locked.url}/#operate")
    dialog = page.get_by_role("dialog", name="API key")
    await expect(dialog).to_be_visible()
    await dialog.press("Escape")
    await expect(page.locator(".operate")).to_contain_text("an API key is needed")
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    for _ in range(2):
        async with page.expect_response(lambda answer: answer.url.endswith("/v1/health")):
            pass
    assert set(asked) == {"health"}
    await expect(dialog).to_be_hidden()
    await expect(row(page, "default")).to_be_visible()
    await page.get_by_role("button", name="Key", exact=True).click()
    await page.get_by_label("Key", exact=True).fill(locked.keys["admin"])
    await page.get_by_role("button", name="Use").click()
    await expect(page.locator(".operate")).to_contain_text("metrics are turned off")
    await page.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(browser, stage, parts):
    """Calls a function of one of the page's files in the browser."""
    page = await browser.new_page()
    await page.goto(stage.url)

    async def evaluated(file: str, code: str, argument: object = None) -> object:
        return await page.evaluate(
            f"async ([address, given]) => {{ const part = await import(address); return ({code})(part, given); }}",
            [f"{parts}/{file}", argument],
        )

    yield evaluated
    await page.close()


async def test_the_exposition_is_parsed(call):
    found = await call("metrics.js", "({parse}, text) => [...parse(text)]", EXPOSITION)
    assert dict(found)["llm_gateway_x_total"] == [
        {"labels": {"model": "a b", "note": 'say "hi"\\ \n'}, "value": 3},
        {"labels": {"model": "c"}, "value": 400},
    ]
    assert dict(found)["plain"] == [{"labels": {}, "value": 7}]


async def test_the_exposition_of_the_service_is_parsed_whole(call, stage):
    text = stage.client.get("/metrics").text
    code = "({parse}, text) => [...parse(text).values()].flat().filter(({value}) => !Number.isNaN(value)).length"
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert await call("metrics.js", code, text) == len(lines) > 50


@pytest.mark.parametrize(
    ("share", "earlier", "later", "value"),
    [
        (0.5, {}, {"0.1": 2, "0.2": 2, "Infinity": 2}, 0.05),
        (0.5, {"0.1": 2, "0.2": 2, "Infinity": 2}, {"0.1": 2, "0.2": 6, "Infinity": 6}, 0.15),
        (0.95, {}, {"0.1": 1, "0.2": 1, "Infinity": 9}, 0.2),  # nothing is known beyond the last bound
        (0.5, {"0.1": 3, "Infinity": 3}, {"0.1": 3, "Infinity": 3}, None),  # nothing came
        (0.5, {"0.1": 9, "Infinity": 9}, {"0.1": 2, "Infinity": 2}, 0.05),  # the service began anew
    ],
)
async def test_quantiles_are_of_what_came_in_between(call, share, earlier, later, value):
    code = """({quantile}, [share, ...both]) => quantile(share, ...both.map(
        (counts) => new Map(Object.entries(counts).map(([bound, count]) => [Number(bound), count]))))"""
    found = await call("metrics.js", code, [share, earlier, later])
    assert found == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(("earlier", "later", "grown"), [(10, 30, 10.0), (30, 10, 5.0), (7, 7, 0.0)])
async def test_a_rate_is_a_seconds_growth_and_survives_a_restart(call, earlier, later, grown):
    code = "({rate}, [earlier, later]) => rate({time: 0, n: earlier}, {time: 2, n: later}, 'n')"
    assert await call("metrics.js", code, [earlier, later]) == grown


STREAM = ': hello\r\n\r\ndata: {"a":\ndata: 1}\n\nevent: end\ndata: ü\r\rdata:x\n\ndata: never ended'
EVENTS = [
    {"comment": "hello"},
    {"event": "message", "data": '{"a":\n1}'},
    {"event": "end", "data": "ü"},
    {"event": "message", "data": "x"},
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
async def test_a_stream_is_read_the_same_however_it_is_cut(call, size):
    code = """({EventParser}, [text, size]) => {
        const parser = new EventParser();
        const pieces = text.match(new RegExp(`[^]{1,${size}}`, "g"));
        return pieces.flatMap((piece) => [...parser.feed(piece)]);
    }"""
    assert await call("sse.js", code, [STREAM, size]) == EVENTS


async def test_bytes_of_a_character_that_is_cut_are_put_together(call):
    code = """async ({readEvents}) => {
        const bytes = new TextEncoder().encode("data: ü\\n\\n");
        const start = (to) => { bytes.forEach((one) => to.enqueue(new Uint8Array([one]))); to.close(); };
        const body = new ReadableStream({ start });
        const found = [];
        for await (const { data } of readEvents(body)) found.push(data);
        return found;
    }"""
    assert await call("sse.js", code) == ["ü"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "0.5", 0.5),
        ("integer", "7", 7),
        ("boolean", "false", False),
        ("choice", "low", "low"),
        ("texts", "a\\nb\n\\\\n", ["a\nb", "\\n"]),
        ("integers", "1, 2 3", [1, 2, 3]),
        ("json", '{"50": -100}', {"50": -100}),
    ],
)
async def test_what_is_written_becomes_a_value_of_its_kind(call, kind, text, value):
    code = "({toValues}, [kind, text]) => toValues([{name: 'x', kind}, {name: 'y', kind}], {x: text, y: ' '})"
    assert await call("parameters.js", code, [kind, text]) == {"x": value}


async def test_what_is_no_value_is_named(call):
    code = """({toValues}) => { try { toValues([{name: "seed", kind: "integer"}], {seed: "1x"}) }
        catch (error) { return error.message } }"""
    assert await call("parameters.js", code) == "seed: 1x is no number"
