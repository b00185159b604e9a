"""The engine before a server that answers by script, byte for byte: a fault must be scripted."""

import asyncio
import json
from contextlib import aclosing

import pytest
from msgspec import structs

from gateway.engine import (
    Completion,
    Delta,
    EngineError,
    Finished,
    GenerateRequest,
    Grammar,
    InvalidRequest,
    LoadFailed,
    Started,
    Unavailable,
    UnknownModel,
    UpstreamFailed,
    collect,
)
from gateway_openai import Settings, build
from tests.support.scripted_upstream import END, GOOD, HEAD, TEXT, USAGE, Script, behind, frame, said, whole

TRACE = f"00-{'1' * 32}-{'2' * 16}-01"
REQUEST = GenerateRequest(id="1", model="m", prompt=Completion("x"), trace=TRACE)


async def ask(*pieces, **settings):
    async with behind(Script(*pieces), **settings) as engine, aclosing(engine.generate(REQUEST)) as stream:
        return await collect(stream)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_an_answer_in_pieces_of_any_size_is_the_answer(size):
    answer = await ask(*(GOOD[at : at + size] for at in range(0, len(GOOD), size)))
    assert answer.text == TEXT
    assert (answer.finished.reason, answer.finished.usage.prompt_tokens) == ("stop", 3)


async def test_the_tokens_are_those_of_the_usage():
    async with behind(Script(HEAD + said("a") + said("b") + END)) as engine:
        events = [event async for event in engine.generate(REQUEST)]
    assert sum(event.tokens for event in events if isinstance(event, Delta)) == 9
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.completion_tokens == 9


async def test_a_usage_that_is_too_small_counts_what_was_told():
    answer = await ask(HEAD + said("a") * 20 + END)
    assert answer.finished.usage.completion_tokens == 19


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n" + b'{"error": {}}',
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\ncontent-length: 99\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        HEAD,
        HEAD + b"data: [DONE]\n\n",
        HEAD + said("a"),
        HEAD + said("a")[:-9],
        HEAD + said("a") + frame(error={"message": "out of memory at 10.0.0.7"}),
        HEAD + said("a") + said("", "stop") + b"data: [DONE]\n\n",
        HEAD + said("a") + said("", "content_filter") + USAGE + b"data: [DONE]\n\n",
        HEAD + said("a") + b'data: {"choices": [{"text": "\xff"}]}\n\n',
        HEAD + b"data: " + b"x" * (3 << 20),
    ],
)
async def test_a_broken_answer_is_a_typed_error_that_names_no_host(answer):
    with pytest.raises(EngineError) as caught:
        await ask(answer)
    assert type(caught.value) is UpstreamFailed
    assert "127.0.0.1" not in caught.value.message
    assert "10.0.0.7" not in caught.value.message


async def test_closing_the_stream_closes_the_request_to_the_server():
    script = Script(HEAD + said("a"), still=True)
    async with behind(script) as engine:
        stream = engine.generate(REQUEST)
        assert isinstance(await anext(stream), Started)
        assert (await engine.status()).running == 1
        await stream.aclose()
        await asyncio.wait_for(script.left.wait(), 60)
        assert (await engine.status()).running == 0


async def test_a_server_that_closes_its_connections_after_each_answer_is_asked_on_new_ones():
    """As llama-server does, and says nothing of it: the pool learns that at the next request."""
    events = GOOD.removeprefix(HEAD)
    kept = HEAD.replace(b"connection: close", b"content-length: %d" % len(events))
    async with behind(Script(kept + events), places=4) as engine:
        for _ in range(20):
            assert (await collect(engine.generate(REQUEST))).text == TEXT
        answers = await asyncio.gather(*(collect(engine.generate(REQUEST)) for _ in range(20)))
    assert {answer.text for answer in answers} == {TEXT}


@pytest.mark.parametrize(("constraint", "param"), [(Grammar("root ::= x"), "grammar"), (None, None)])
async def test_a_refusal_that_names_nothing_is_that_of_the_shape(constraint, param):
    request = structs.replace(REQUEST, constraint=constraint)
    async with behind(Script(whole("400 Bad Request", b'{"error": {}}')), server="llama-server") as engine:
        with pytest.raises(InvalidRequest) as refusal:
            await collect(engine.generate(request))
    assert refusal.value.param == param


async def test_a_server_that_is_not_there_is_a_typed_error():
    script = Script()
    async with behind(script, base_url="http://127.0.0.1:1/v1") as engine:
        with pytest.raises(UpstreamFailed):
            await collect(engine.generate(REQUEST))


async def test_the_key_and_the_trace_are_sent_and_proxies_are_not_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    file = tmp_path / "key"
    file.write_text("sk-secret\n")
    script = Script(GOOD)
    async with behind(script, api_key_file=str(file)) as engine:
        await collect(engine.generate(REQUEST))
        assert "sk-secret" not in repr((engine.models(), await engine.status(), vars(engine)))
    head = script.heads[0].lower()
    assert b"authorization: bearer sk-secret\r\n" in head
    assert b"traceparent: " + TRACE.encode() in head
    assert b"accept-encoding: identity" in head


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"two\nlines"])
async def test_a_key_file_without_a_key_is_refused_and_not_shown(tmp_path, key):
    file = tmp_path / "key"
    if key is not None:
        file.write_bytes(key)
    with pytest.raises(LoadFailed) as caught:
        await build(Settings(base_url="http://127.0.0.1:1", models={"m": "m"}, api_key_file=str(file))).__aenter__()
    assert "lines" not in caught.value.message


async def test_the_models_are_those_that_the_server_lists():
    listed = {"data": [{"id": "org/one", "max_model_len": 77}, {"id": "two", "object": "model"}]}
    body = json.dumps(listed).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with behind(Script(head + body), models={}, context_window=50) as engine:
        one, two = engine.models()
    assert (one.name, one.aliases, one.context_window) == ("one", ("org/one",), 77)
    assert (two.name, two.aliases, two.context_window) == ("two", (), 50)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": [{}]}', b"\xff"])
async def test_a_list_that_is_none_fails_the_load_in_a_line(body):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    with pytest.raises(LoadFailed):
        async with behind(Script(head + body), models={}):
            pass


async def test_an_engine_that_was_left_and_a_model_that_is_not_there_are_refused():
    async with behind(Script(GOOD)) as engine:
        with pytest.raises(UnknownModel):
            await collect(engine.generate(GenerateRequest(id="1", model="other", prompt=Completion("x"))))
    with pytest.raises(Unavailable):
        await collect(engine.generate(REQUEST))


async def test_a_page_that_looks_like_a_stream_is_none():
    with pytest.raises(UpstreamFailed, match="something else than a stream"):
        await ask(GOOD.replace(b"text/event-stream", b"text/html"))


@pytest.mark.parametrize("text", [None, "no certificate"])
async def test_certificates_that_cannot_be_read_fail_the_load_in_a_line(tmp_path, text):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(LoadFailed, match="certificates"):
        await build(Settings(base_url="https://127.0.0.1:1", models={"m": "m"}, ca_file=str(file))).__aenter__()


async def test_a_server_that_is_away_while_it_is_asked_for_its_models_fails_the_load_in_a_line():
    with pytest.raises(LoadFailed, match="cannot be reached"):
        await build(Settings(base_url="http://127.0.0.1:1/v1")).__aenter__()
