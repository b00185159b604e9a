"""The `llama-server` of an engine is killed, stopped or orphaned: nothing is lost silently, the next one answers."""

import asyncio
import os
import signal
from contextlib import aclosing

import psutil
import pytest

from gateway.engine import Completion, EngineRestarted, GenerateRequest, Health, Sampling, Started, collect
from gateway.isolation import RestartPolicy
from tests.support.border import isolated
from tests.support.llama import FLAGS, PROGRAM, needs_llama

pytestmark = [needs_llama, pytest.mark.slow]

MODEL = "smollm2-135m-instruct"
PATIENCE = 90.0
POLICY = RestartPolicy(hang=20.0, beat=0.1, delay=0.01, leave=5.0)


def engine(policy=POLICY):
    return isolated("llamacpp", policy, binary=PROGRAM, flags=FLAGS, threads=1, places=2, context_window=512)


def request(number=0, tokens=400):
    sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    return GenerateRequest(id=f"r{number}", model=MODEL, prompt=Completion(f"{number}: once upon"), sampling=sampling)


def child_of(made):
    """The engine's `llama-server`."""
    (child,) = psutil.Process(made.pid).children()
    assert "llama-server" in child.name()
    return child


def is_gone(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until(holds):
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.05)


async def outcome(made, asked, begun):
    """Read an answer; say how it ended."""
    try:
        async with aclosing(made.generate(asked)) as events:
            async for event in events:
                if isinstance(event, Started):
                    begun.set()
    except EngineRestarted:
        return "restarted"
    return "answered"


async def test_a_server_that_is_killed_under_load_is_replaced():
    async with engine() as made:
        first, begun = child_of(made), asyncio.Event()
        callers = [asyncio.create_task(outcome(made, request(number), begun)) for number in range(2)]
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
            first.send_signal(signal.SIGKILL)
            ended = await asyncio.gather(*callers)
            answer = await collect(made.generate(request(9, tokens=4)))
        assert "restarted" in ended
        assert set(ended) <= {"restarted", "answered"}
        assert answer.finished.usage.completion_tokens == 4
        assert made.restarts == {"failed": 1}
        assert child_of(made).pid != first.pid


async def test_a_server_that_stands_still_is_noticed():
    async with engine(RestartPolicy(hang=3.0, beat=0.1, delay=0.01, leave=5.0)) as made:
        first, begun = child_of(made), asyncio.Event()
        caller = asyncio.create_task(outcome(made, request(), begun))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
            first.send_signal(signal.SIGSTOP)
            assert await caller == "restarted"
            await until(lambda: made._keeper.health is Health.READY)
        assert is_gone(first)
        assert made.restarts["hang"] >= 1


async def test_a_server_ends_with_its_engine_however_that_ends():
    async with engine() as made:
        first, process = child_of(made), made.pid
        os.kill(process, signal.SIGKILL)
        await until(lambda: is_gone(first))
        await until(lambda: made.pid not in (None, process) and made._keeper.health is Health.READY)
        second = child_of(made)
        assert made.restarts == {"exit": 1}
        # Its key and its socket are its own.
        assert not any(len(word) == 64 for word in second.cmdline())
    await until(lambda: is_gone(second))


async def test_a_reader_that_leaves_frees_its_slot():
    async with engine() as made:
        for number in range(4):
            begun = asyncio.Event()
            caller = asyncio.create_task(outcome(made, request(number), begun))
            async with asyncio.timeout(PATIENCE):
                await begun.wait()
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(collect(made.generate(request(number, tokens=2))) for number in (7, 8)))
        assert [answer.finished.usage.completion_tokens for answer in answers] == [2, 2]
        status = await made.status()
        assert (status.running, status.waiting) == (0, 0)
