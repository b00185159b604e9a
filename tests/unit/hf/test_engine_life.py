"""Loading, unloading and loading again; over a tiny real model."""

import asyncio
import threading

import psutil
import pytest
import torch

from gateway.engine import (
    Completion,
    DiskCache,
    Health,
    LoadFailed,
    Sampling,
    Unavailable,
    collect,
)
from gateway_hf.compute.kernels import Kernels
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.engine import HfEngine
from gateway_hf.loading import weights
from gateway_hf.settings import Settings
from tests.support.hf_engine import LONG, SHORT, ask, builtin_folder
from tests.support.tiny_gguf import make_tiny_gguf


@pytest.fixture
def folder(tiny):
    return tiny("llama")


@pytest.fixture
def settings(folder):
    return Settings(model=str(folder), dtype="float32", places=2)


async def test_its_conversion_is_kept_in_the_cache_until_it_is_left(folder, tmp_path):
    file = make_tiny_gguf(folder, tmp_path / "made.gguf")
    cache = DiskCache(tmp_path / "cache")
    async with HfEngine(Settings(model=str(file), dtype="float32", kernels="off", cache_folder=str(cache.folder))):
        assert [entry.path.name[:5] for entry in cache.clear()] == ["made-"]
    assert cache.clear() == []


async def test_once_it_has_answered_it_takes_memory_behind_the_blocks_that_were_used(settings, kernels, monkeypatch):
    is_done = threading.Event()

    def take_ahead(cache, used):
        if used:
            is_done.set()
        return False

    monkeypatch.setattr(KvCache, "take_ahead", take_ahead)
    async with HfEngine(settings) as engine:
        await collect(engine.generate(ask()))
        assert await asyncio.to_thread(is_done.wait, 20)


async def test_where_there_are_kernels_they_draw(settings, kernels, monkeypatch):
    drawn = []

    def draw(self, logits, draws):
        drawn.append(len(draws))
        return own(self, logits, draws)

    own = Kernels.draw
    monkeypatch.setattr(Kernels, "draw", draw)
    async with HfEngine(settings) as engine:
        await collect(engine.generate(ask(sampling=Sampling(temperature=1.0, max_tokens=3, ignore_eos=True))))
    assert drawn == [1, 1, 1]


async def test_before_it_is_entered_and_after_it_was_left_nothing_is_served(settings):
    engine = HfEngine(settings)
    for _ in range(2):
        assert (await engine.status()).health is Health.UNLOADED
        assert engine.models() == ()
        with pytest.raises(Unavailable):
            await anext(engine.generate(ask()))
        with pytest.raises(Unavailable):
            await engine.count_tokens("m", Completion("a"))
        async with engine:
            assert (await engine.status()).health is Health.READY


async def test_leaving_ends_what_runs_and_twice_is_harmless(settings):
    engine = HfEngine(settings)
    await engine.__aenter__()
    stream = engine.generate(ask(sampling=LONG))
    await anext(stream)
    await engine.__aexit__(None, None, None)
    with pytest.raises(Unavailable):
        await collect(stream)
    await engine.__aexit__(None, None, None)
    status = await engine.status()
    assert (status.health, status.running, status.waiting) == (Health.UNLOADED, 0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hf-")]


async def test_an_engine_may_be_entered_again(settings):
    engine = HfEngine(settings)
    answers = []
    for _ in range(2):
        async with engine:
            answers.append((await collect(engine.generate(ask()))).text)
    assert answers[0] == answers[1]


async def test_a_model_that_cannot_load_says_so(tmp_path):
    engine = HfEngine(Settings(model=str(tmp_path)))
    with pytest.raises(LoadFailed) as caught:
        await engine.__aenter__()
    status = await engine.status()
    assert (status.health, status.detail) == (Health.FAILED, caught.value.message)
    assert "\n" not in status.detail
    with pytest.raises(Unavailable):
        await anext(engine.generate(ask()))
    await engine.__aexit__(None, None, None)


async def test_the_event_loop_is_free_while_the_model_loads(settings, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    monkeypatch.setattr("gateway_hf.loading.weights.load", lambda _: (entered.set(), leave.wait(20), 1 / 0))
    engine = HfEngine(settings)
    loading = asyncio.create_task(engine.__aenter__())
    await asyncio.to_thread(entered.wait, 20)
    assert (await engine.status()).health is Health.STARTING
    with pytest.raises(Unavailable, match="loading"):
        await anext(engine.generate(ask()))
    leave.set()
    with pytest.raises(LoadFailed) as caught:
        await loading
    assert "division" not in caught.value.message
    assert (await engine.status()).health is Health.FAILED


async def test_loading_can_be_given_up(settings, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    load = weights.load

    def slow(settings):
        entered.set()
        assert leave.wait(20)
        return load(settings)

    monkeypatch.setattr("gateway_hf.loading.weights.load", slow)
    engine = HfEngine(settings)
    loading = asyncio.create_task(engine.__aenter__())
    await asyncio.to_thread(entered.wait, 20)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert (await engine.status()).health is Health.UNLOADED
    leave.set()
    async with asyncio.timeout(20):
        while [thread for thread in threading.enumerate() if thread.name == "hf-loop"]:  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_unloading_gives_the_memory_back(capsys):
    memory = psutil.Process().memory_info
    engine = HfEngine(Settings(model=str(builtin_folder()), dtype="float32"))
    async with engine:
        await collect(engine.generate(ask(sampling=SHORT)))
        loaded = memory().rss
    left = memory().rss
    with capsys.disabled():
        print(f"\nRSS with the built-in model {loaded >> 20} MiB, after it was unloaded {left >> 20} MiB")
    size = 135_000_000 * torch.finfo(torch.float32).bits // 8
    assert loaded - left > size * 0.7
