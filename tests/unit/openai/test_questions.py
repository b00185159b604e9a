"""Questions about tokens, asked of a server in its words."""

import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.engine import (
    Chat,
    Completion,
    InvalidRequest,
    Message,
    ModelCard,
    Text,
    Tokens,
    Unsupported,
    UpstreamFailed,
)
from gateway_openai.client import Connecting, UpstreamClient
from gateway_openai.profiles import PROFILES
from gateway_openai.questions import RemoteTokenizer
from gateway_openai.words import RemoteModel

CHAT = Chat((Message("user", (Text("hi"),)),))


def model(name, vocabulary=0):
    takes = PROFILES[name].takes
    card = ModelCard(name="m", context_window=9, capabilities=takes, vocabulary=vocabulary)
    return RemoteModel(card, "theirs", PROFILES[name])


@asynccontextmanager
async def asking(**replies):
    """Ask a server that answers each path in turn with what is next; yield the tokenizer and what it was sent."""
    sent = []

    async def answer(request):
        sent.append((request.path, await request.json()))
        status, reply = replies[request.path.strip("/").replace("-", "_")].pop(0)
        return web.Response(status=status, text=reply if isinstance(reply, str) else json.dumps(reply))

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with UpstreamClient(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", Connecting()) as client:
            yield RemoteTokenizer(client), sent
    finally:
        await runner.cleanup()


async def test_a_text_is_asked_in_the_servers_words():
    async with asking(tokenize=[(200, {"tokens": [1, 2]}), (200, {"tokens": [3]})]) as (tokenizer, sent):
        assert await tokenizer.ids(model("vllm"), Completion("ab", add_special=False)) == (1, 2)
        assert await tokenizer.ids(model("llama-server"), Completion("ab")) == (3,)
    assert sent == [
        ("/tokenize", {"model": "theirs", "prompt": "ab", "add_special_tokens": False}),
        ("/tokenize", {"model": "theirs", "content": "ab", "add_special": True}),
    ]


async def test_tokens_are_themselves_and_are_not_asked_for():
    async with asking() as (tokenizer, sent):
        assert await tokenizer.ids(model("vllm"), Tokens((4, 5))) == (4, 5)
        assert await tokenizer.pieces(model("vllm"), ()) == ()
    assert not sent


async def test_a_conversation_is_put_through_the_template_where_the_server_tokenizes_texts_only():
    replies = {"apply_template": [(200, {"prompt": "<hi>"})], "tokenize": [(200, {"tokens": [7]})]}
    async with asking(**replies) as (tokenizer, sent):
        assert await tokenizer.ids(model("llama-server"), CHAT) == (7,)
    assert [path for path, _ in sent] == ["/apply-template", "/tokenize"]
    assert sent[1][1]["content"] == "<hi>"


async def test_pieces_are_asked_for_at_once_and_bytes_go_to_the_last_of_a_character():
    euro = "€".encode()
    found = [{"id": 1, "piece": "a"}, {"id": 2, "piece": list(euro[:2])}, {"id": 3, "piece": list(euro[2:])}]
    replies = {"detokenize": [(200, {"content": "a€"})], "tokenize": [(200, {"tokens": found})]}
    async with asking(**replies) as (tokenizer, _):
        assert await tokenizer.pieces(model("llama-server"), (1, 2, 3)) == ("a", "", "€")


async def test_each_token_is_asked_for_where_the_server_shows_no_pieces():
    texts = ["ab", "a", "b"]
    async with asking(detokenize=[(200, {"prompt": text}) for text in texts]) as (tokenizer, sent):
        pieces = await tokenizer.pieces(model("vllm"), (1, 2))
    assert sorted(pieces) == ["a", "b"]
    assert len(sent) == 3


async def test_pieces_that_are_not_the_text_are_refused():
    with pytest.raises(Unsupported):
        async with asking(detokenize=[(200, {"prompt": text}) for text in ("€", "\ufffd", "\ufffd")]) as (tokenizer, _):
            await tokenizer.pieces(model("vllm"), (1, 2))


async def test_a_token_beyond_the_vocabulary_is_refused_before_the_server_is_asked():
    async with asking() as (tokenizer, sent):
        with pytest.raises(InvalidRequest, match="no token 9"):
            await tokenizer.pieces(model("llama-server", vocabulary=9), (1, 9))
    assert not sent


@pytest.mark.parametrize(
    ("status", "reply", "kind"),
    [
        (400, {"error": {"message": "at 10.0.0.7"}}, InvalidRequest),
        (500, "<html>", UpstreamFailed),
        (200, "<html>", UpstreamFailed),
        (200, {"tokens": ["x"]}, UpstreamFailed),
    ],
)
async def test_what_is_no_answer_is_a_typed_error(status, reply, kind):
    async with asking(tokenize=[(status, reply)]) as (tokenizer, _):
        with pytest.raises(kind) as caught:
            await tokenizer.ids(model("vllm"), Completion("x"))
    assert "10.0.0.7" not in caught.value.message
