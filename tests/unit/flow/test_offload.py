"""Large work leaves the event loop its turns; small work stays where it is."""

import asyncio
import threading

import pytest

from gateway.flow.offload import LARGE, offload, offload_large


async def test_small_work_is_done_at_once():
    assert await offload(1_024, threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize(("weight", "is_here"), [(LARGE, True), (LARGE + 1, False)])
async def test_large_bodies_alone_are_read_in_the_thread(weight, is_here):
    assert (await offload_large(weight, threading.get_ident) == threading.get_ident()) is is_here


async def test_the_loop_goes_on_beside_large_work():
    asked, done = threading.Event(), threading.Event()

    def work():
        asked.set()
        return done.wait(10)

    large = asyncio.create_task(offload(1_025, work))
    while not asked.is_set():  # noqa: ASYNC110 - a thread tells no loop
        await asyncio.sleep(0.001)
    done.set()
    assert await large


async def test_an_error_of_the_work_is_raised():
    with pytest.raises(ZeroDivisionError):
        await offload(1_025, lambda: 1 // 0)
