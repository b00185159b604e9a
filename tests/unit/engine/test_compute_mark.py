"""An engine marks what it computes; outside of a host the marks are read by none."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from gateway.engine import begin_call, compute_mark


async def test_the_mark_is_that_of_the_call_also_on_another_thread():
    own = begin_call()
    mark = compute_mark()
    assert mark is own
    assert not mark.is_computed

    def compute():
        with mark:
            return own.is_computed

    with ThreadPoolExecutor(1) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, compute)
    assert not own.is_computed


async def test_each_task_has_the_mark_of_its_call():
    async def call():
        own = begin_call()
        await asyncio.sleep(0)
        return compute_mark() is own

    assert await asyncio.gather(call(), call()) == [True, True]


async def test_without_a_host_a_mark_is_harmless():
    async def use():
        with compute_mark():
            return True

    assert await asyncio.create_task(use())
