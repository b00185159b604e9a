"""The kind of server, its models, and what they take: found by asking."""

import json
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from gateway.engine import Capability, LoadFailed
from gateway_openai.client import Connecting, UpstreamClient
from gateway_openai.discovery import discover
from gateway_openai.profiles import PROFILES
from gateway_openai.settings import Settings

MODELS = {"data": [{"id": "org/one", "max_model_len": 77}, {"id": "two"}]}


@asynccontextmanager
async def asking(replies, **settings):
    """Discover a server with these replies by path; others are 404."""
    paths = []

    async def answer(request):
        paths.append(request.path)
        if request.path not in replies:
            return web.Response(status=404, text="<html>")
        return web.Response(text=json.dumps(replies[request.path]), content_type="application/json")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        async with UpstreamClient(url, Connecting()) as client:
            yield await discover(client, msgspec.convert({"base_url": url} | settings, Settings)), paths
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "reply", "name"),
    [
        ("/version", {"version": "0.11.2"}, "vllm"),
        ("/get_model_info", {"model_path": "x"}, "sglang"),
        ("/props", {"default_generation_settings": {}}, "llama-server"),
        ("/api/version", {"version": "0.13"}, "ollama"),
        ("/api/v0/models", {"data": []}, "lmstudio"),
        ("/info", {"model_dtype": "f16"}, "tgi"),
        ("/other", {}, ""),
    ],
)
async def test_a_server_is_known_by_what_only_it_answers(path, reply, name):
    async with asking({"/v1/models": MODELS, path: reply}) as (found, _):
        assert {model.profile.name for model in found} == {name}


async def test_an_answer_to_everything_is_no_sign():
    """LM Studio says 200 to any path."""
    says = {"error": "Unexpected endpoint"}
    replies = {"/v1/models": MODELS, "/api/v0/models": {"data": []}}
    async with asking(replies | dict.fromkeys(("/props", "/version", "/info", "/get_model_info"), says)) as (found, _):
        assert found[0].profile.name == "lmstudio"


async def test_a_gateway_says_what_each_model_can():
    own = {"object": "model.capabilities", "capabilities": ["chat", "completion", "top_k", "max_length", "new_word"]}
    other = {"object": "model.capabilities", "capabilities": ["chat", "tokenize", "token_count", "stop"]}
    replies = {"/v1/models": MODELS, "/v1/models/org/one/capabilities": own, "/v1/models/two/capabilities": other}
    async with asking(replies) as ((one, two), paths):
        assert one.card.capabilities == {Capability.CHAT, Capability.COMPLETION, Capability.TOP_K}
        assert two.card.capabilities == {"chat", "tokenize", "token_count", "stop"}
        assert one.profile.name == two.profile.name == "gateway"
        assert "/props" not in paths


async def test_questions_about_tokens_need_their_ids():
    own = {"object": "model.capabilities", "capabilities": ["chat", "standby", "token_count", "tokenizer_info"]}
    replies = {"/v1/models": {"data": [{"id": "m"}]}, "/v1/models/m/capabilities": own}
    async with asking(replies) as ((model,), _):
        assert model.card.capabilities == {"chat"}


@pytest.mark.parametrize("server", sorted(PROFILES.keys() - {"gateway"}))
async def test_a_server_that_is_named_is_not_asked(server):
    async with asking({}, server=server, models={"m": "org/one"}) as ((model,), paths):
        assert (model.card.name, model.card.aliases, model.profile.name) == ("m", ("org/one",), server)
        assert not paths


async def test_models_that_are_configured_get_the_servers_context():
    async with asking({"/v1/models": MODELS}, models={"mine": "org/one", "else": "three"}, context_window=9) as (
        (one, three),
        _,
    ):
        assert (one.card.name, one.id, one.card.context_window) == ("mine", "org/one", 77)
        assert (three.card.name, three.card.context_window) == ("else", 9)


async def test_a_server_that_lists_nothing_serves_the_models_that_are_configured():
    async with asking({}, models={"mine": "theirs"}) as ((model,), _):
        assert (model.card.name, model.profile.name) == ("mine", "")
    with pytest.raises(LoadFailed, match="404"):
        async with asking({}):
            pass


async def test_the_size_of_a_vocabulary_is_read_where_the_server_says_it():
    models = {"data": [{"id": "m", "meta": {"n_vocab": 7, "n_params": 1}}, {"id": "n", "meta": None}]}
    async with asking({"/v1/models": models}) as (found, _):
        assert [model.card.vocabulary for model in found] == [7, 0]


@pytest.mark.parametrize(
    ("able", "has_tools"), [({"supports_tools": True, "supports_tool_calls": True}, True), ({}, False), (None, False)]
)
async def test_a_llama_server_calls_tools_where_its_template_does(able, has_tools):
    props = {"default_generation_settings": {}, "chat_template_caps": able}
    async with asking({"/v1/models": MODELS, "/props": props}) as (found, _):
        assert (Capability.TOOLS in found[0].card.capabilities) is has_tools


@pytest.mark.parametrize(
    ("template", "thinks"),
    [("{% if enable_thinking %}<think>{% endif %}", True), ("{{ messages }}", False), (7, False)],
)
async def test_a_llama_server_thinks_where_its_template_can_be_told_to(template, thinks):
    props = {"default_generation_settings": {}, "chat_template": template}
    async with asking({"/v1/models": MODELS, "/props": props}) as (found, _):
        assert (Capability.REASONING in found[0].card.capabilities) is thinks
