"""The engine before a server that is broken or means harm: a typed error at most, in bounded memory."""

import asyncio
import gzip
import json
from contextlib import aclosing

import pytest

from gateway.engine import (
    Completion,
    EngineError,
    GenerateRequest,
    LoadFailed,
    Overloaded,
    Sampling,
    Unavailable,
    UpstreamFailed,
    collect,
)
from tests.support.scripted_upstream import END, GOOD, HEAD, TEXT, USAGE, Script, behind, called, frame, said, whole

REQUEST = GenerateRequest(id="1", model="m", prompt=Completion("x"), sampling=Sampling(max_tokens=30))
HTML = b"<html><body>Bad Gateway at http://10.0.0.7:8000, key sk-secret</body></html>"
JSON, PAGE = "content-type: application/json", "content-type: text/html"
# What one answer may have taken of memory: an event, and what lies in the buffers of both sides.
_TAKEN = 16 << 20


async def ask(script, **settings):
    async with behind(script, **settings) as engine, aclosing(engine.generate(REQUEST)) as stream:
        return await collect(stream)


async def failure(script, **settings):
    async with asyncio.timeout(60):
        with pytest.raises(EngineError) as caught:
            await ask(script, **settings)
    for word in ("127.0.0.1", "10.0.0.7", "sk-secret", "html"):
        assert word not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("200 OK", UpstreamFailed),
        ("404 No", UpstreamFailed),
        ("502 Bad", UpstreamFailed),
        ("503 Away", Unavailable),
        ("429 Full", Overloaded),
    ],
)
async def test_an_html_page_is_a_typed_error_and_not_shown(status, kind):
    assert type(await failure(Script(whole(status, HTML, PAGE)))) is kind


@pytest.mark.parametrize(
    "script",
    [
        Script.endless(HEAD, b"data: ", again=b"x" * 65_536),
        Script.endless(HEAD, again=b"data: " + b"x" * 9_000 + b"\n"),
        Script.endless(HEAD, said("a"), b": ", again=b"x" * 65_536),
        Script.endless(b"HTTP/1.1 200 OK\r\nx: ", again=b"y" * 65_536),
        Script.endless(b"HTTP/1.1 200 OK\r\n", again=b"x: y\r\n" * 9_000),
        Script.endless(b"HTTP/1.1 400 No\r\nconnection: close\r\n\r\n", again=b"x" * 65_536),
    ],
    ids=["a line", "an event of lines", "a comment", "a header", "headers", "a refusal"],
)
async def test_what_has_no_end_is_ended_in_bounded_memory(script):
    await failure(script)
    async with asyncio.timeout(60):
        await script.left.wait()
    assert script.sent < _TAKEN


async def test_a_list_of_models_without_an_end_fails_the_load_in_bounded_memory():
    script = Script.endless(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", again=b"[" * (1 << 20))
    with pytest.raises(LoadFailed, match="more than"):
        await ask(script, models={})
    assert script.sent < 5 * _TAKEN


async def test_an_answer_without_an_end_is_ended_at_its_limit():
    assert "does not end" in (await failure(Script.endless(HEAD, again=said("a")))).message


async def test_comments_without_an_end_are_no_sign_of_life():
    script = Script.endless(HEAD, again=b": ping\n\n", pause=0.01)
    assert "in time" in (await failure(script, first_byte_seconds=0.3)).message
    script = Script.endless(HEAD, said("a"), again=b": ping\n\n", pause=0.01)
    assert "in time" in (await failure(script, idle_seconds=0.3)).message


async def test_a_slow_trickle_is_no_sign_of_life():
    script = Script.endless(HEAD, said("a"), b"data: ", again=b" ", pause=0.01)
    assert "in time" in (await failure(script, idle_seconds=0.3)).message


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": "3"},
        {"prompt_tokens": -3, "completion_tokens": 1},
        {"prompt_tokens": 3, "completion_tokens": 1e300},
        {"prompt_tokens": 3, "completion_tokens": 10**30},
        {"prompt_tokens": 3, "completion_tokens": 10**9},
        {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": 7},
        [3, 1],
        "3",
    ],
    ids=json.dumps,
)
async def test_a_usage_that_is_none_is_a_typed_error(usage):
    answer = HEAD + said("a") + said("", "stop") + frame(choices=[], usage=usage) + b"data: [DONE]\n\n"
    assert type(await failure(Script(answer))) is UpstreamFailed


@pytest.mark.parametrize(
    "error",
    [{"error": {"message": "no", "code": 500}}, {"error": "no"}, {"object": "error", "message": "no"}, {"detail": []}],
    ids=json.dumps,
)
async def test_an_error_that_comes_as_a_success_is_a_typed_error(error):
    body = json.dumps(error).encode()
    assert type(await failure(Script(whole("200 OK", body, JSON)))) is UpstreamFailed
    assert type(await failure(Script(HEAD + b"data: " + body + b"\n\ndata: [DONE]\n\n"))) is UpstreamFailed


@pytest.mark.parametrize(
    "pieces",
    [
        [called(index=0, id="a", function={"arguments": "{}"})],
        [called(index=0, id="a", function={"name": "f"}), called(index=0, id="b", function={"arguments": "{}"})],
        [called(index=n, id=f"c{n}", function={"name": "f"}) for n in (0, 1)]
        + [called(index=0, function={"arguments": "{}"})],
        [called(index="0", id="a", function={"name": "f"})],
        [called(index=0, id="a", function="f")],
    ],
    ids=["no name", "two ids", "back to the first", "an index in words", "no function"],
)
async def test_calls_that_contradict_themselves_are_a_typed_error(pieces):
    assert type(await failure(Script(HEAD + b"".join(pieces) + END))) is UpstreamFailed


@pytest.mark.parametrize(
    "data",
    [b'{"choices": [{"text": "\xff"}]}', b"\xff\xfe", b'{"choices": [{"text": "\\ud800"}]}', b"\x00", b'{"a": NaN}'],
)
async def test_bytes_that_are_no_text_are_a_typed_error(data):
    assert type(await failure(Script(HEAD + said("a") + b"data: " + data + b"\n\n" + END))) is UpstreamFailed


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Other", "308 Other"])
async def test_a_redirect_leads_nowhere(status):
    elsewhere = Script(GOOD)
    server = await asyncio.start_server(elsewhere.answer, "127.0.0.1", 0)
    where = f"location: http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/completions"
    try:
        assert type(await failure(Script(whole(status, b"", where)))) is UpstreamFailed
    finally:
        server.close()
    assert not elsewhere.heads


@pytest.mark.parametrize("seconds", ["1e300", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_wait_without_end_is_an_hour(seconds):
    error = await failure(Script(whole("429 Full", b"", f"retry-after: {seconds}")))
    assert isinstance(error, Overloaded)
    assert error.retry_after == 3600


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "zstd"])
async def test_a_packed_answer_is_not_unpacked(packing):
    """A small one may become one without end."""
    head, _, body = GOOD.partition(b"\r\n\r\n")
    packed = gzip.compress(body) if packing == "gzip" else body[:60]
    script = Script(head + b"\r\ncontent-encoding: " + packing.encode() + b"\r\n\r\n" + packed)
    assert type(await failure(script)) is UpstreamFailed


async def test_a_packed_list_of_models_is_not_unpacked():
    body = gzip.compress(b'{"data": [{"id": "m"}]}')
    with pytest.raises(LoadFailed):
        await ask(Script(whole("200 OK", body, JSON, "content-encoding: gzip")), models={})


@pytest.mark.parametrize(
    "odd",
    [
        GOOD.replace(b"data: ", b"data:"),
        GOOD.replace(b"\n\n", b"\r\n\r\n"),
        GOOD.replace(b"data: ", b": note\nid: 7\nevent: x\ndata: "),
        GOOD + b"data: [DONE]\n\ndata: [DONE]\n\n",
        GOOD + said("more") + b"nonsense",
        GOOD.removesuffix(b"data: [DONE]\n\n"),
        GOOD.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8"),
    ],
    ids=["no space", "CRLF", "comments", "DONE again", "more behind the end", "no DONE", "a charset"],
)
async def test_what_is_odd_and_clear_is_read(odd):
    head, _, body = odd.partition(b"connection: close\r\n\r\n")
    assert (await ask(Script(head + b"connection: close\r\n\r\n", body))).text == TEXT


async def test_what_comes_behind_an_answer_is_no_part_of_the_next_one():
    """The connection of an answer that is not at its end is closed, and not used again."""
    chunked = HEAD.replace(b"connection: close", b"transfer-encoding: chunked")
    body = said("one") + END
    first = chunked + b"%x\r\n%b\r\n" % (len(body), body) + b"5\r\nstale\r\n"
    second = HEAD + said("two") + END
    script = Script.each(first, second, still=True)
    async with behind(script) as engine:
        texts = [(await collect(engine.generate(REQUEST))).text for _ in range(2)]
    assert texts == ["one", "two"]


async def test_a_connection_that_was_closed_unanswered_is_tried_once_again():
    script = Script.each(b"", GOOD)
    assert (await ask(script)).text == TEXT
    assert len(script.heads) == 2


async def test_a_request_that_kills_the_server_is_not_sent_without_end():
    script = Script()
    assert type(await failure(script)) is UpstreamFailed
    assert len(script.heads) == 2


async def test_an_answer_that_broke_off_is_not_asked_for_again():
    script = Script(HEAD + said("a"))
    assert type(await failure(script)) is UpstreamFailed
    assert len(script.heads) == 1
    assert USAGE not in script.heads[0]


async def test_a_whole_answer_without_an_end_is_ended_in_bounded_memory():
    script = Script.endless(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", again=b"[" * (1 << 20))
    scored = GenerateRequest(id="1", model="m", prompt=Completion("x"), sampling=Sampling(prompt_logprobs=0))
    async with behind(script, server="vllm") as engine:
        with pytest.raises(UpstreamFailed, match="more than"):
            await collect(engine.generate(scored))
    assert script.sent < 5 * _TAKEN
