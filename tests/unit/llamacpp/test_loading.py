"""A model is loaded, or one line says why not: whatever the child does, nothing of it is left."""

import asyncio
from pathlib import Path

import psutil
import pytest

from gateway.engine import Capability, LoadFailed
from gateway_llamacpp import loading
from gateway_llamacpp.settings import Settings
from tests.support.llama_child import LlamaChild

PATIENCE = 60.0


async def load(child: LlamaChild, **settings):
    async with asyncio.timeout(PATIENCE):
        return await loading.load(Settings(**(child.settings | settings)))


async def unload(loaded) -> None:
    await loading.unload(loaded.server, loaded.client)


async def fails(child: LlamaChild, **settings) -> str:
    with pytest.raises(LoadFailed) as failure:
        await load(child, **settings)
    assert "\n" not in failure.value.message
    return failure.value.message


async def test_a_loaded_model_has_a_card_of_what_the_child_says(tmp_path):
    loaded = await load(LlamaChild(tmp_path, loads=0.2), places=2, context_window=32)
    card = loaded.card
    await unload(loaded)
    assert (card.name, card.context_window, card.places, card.cache_tokens) == ("small", 32, 2, 64)
    assert (card.vocabulary, card.dtype, card.device) == (8, "F32", "cpu")
    assert (card.defaults.temperature, card.defaults.top_k, card.defaults.min_p) == (0.8, 40, 0.05)
    assert {Capability.REGEX, Capability.GRAMMAR, Capability.JSON_SCHEMA, Capability.LOGPROBS} <= card.capabilities
    assert Capability.CHAT not in card.capabilities  # this file has no template
    assert not Path(loaded.server.socket).parent.exists()


@pytest.mark.parametrize(("asked", "given"), [(0, 64), (16, 16)])
async def test_the_context_is_the_models_own_unless_it_is_set(tmp_path, asked, given):
    child = LlamaChild(tmp_path)
    loaded = await load(child, places=3, context_window=asked)
    await unload(loaded)
    assert child.word("--ctx-size") == str(3 * given)


async def test_a_child_that_dies_as_it_loads_is_told_with_its_last_words(tmp_path):
    child = LlamaChild(tmp_path, words=["0.1 E llama: unknown architecture 'new'"], dies=1)
    message = await fails(child)
    assert "exited with status 1 while it loaded the model" in message
    assert "unknown architecture 'new'" in message


async def test_a_child_that_says_nothing_is_told_so(tmp_path):
    assert "set the log's level to DEBUG" in await fails(LlamaChild(tmp_path, dies=-9))


async def test_a_child_of_another_processor_gets_a_hint(tmp_path):
    assert "--no-repack" in await fails(LlamaChild(tmp_path, dies=-4))


@pytest.mark.parametrize("data", [b"", b"GGUF", b"no model", b"GGUF" + bytes(40), b"GGUF" + b"\xff" * 400])
async def test_a_file_that_is_no_whole_gguf_never_starts_a_child(tmp_path, data):
    child = LlamaChild(tmp_path)
    child.model.write_bytes(data)
    assert "small.gguf" in await fails(child)
    assert not child.program.with_suffix(".args").exists()


async def test_a_load_that_is_given_up_leaves_no_child(tmp_path, monkeypatch):
    servers = []
    start = loading.LlamaServer.start

    async def starting(*asked):
        servers.append(await start(*asked))
        return servers[-1]

    monkeypatch.setattr(loading.LlamaServer, "start", starting)
    child = LlamaChild(tmp_path, loads=3600)
    task = asyncio.create_task(load(child))
    async with asyncio.timeout(PATIENCE):
        while not servers:  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(servers[0].pid)
    assert not Path(servers[0].socket).parent.exists()
