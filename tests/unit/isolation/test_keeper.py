"""The keeper of an engine's process, with a start that takes as long as the test says."""

import asyncio

import pytest

from gateway.isolation import ProcessSpec, RestartPolicy
from gateway.isolation.keeper import Keeper

PATIENCE = 60.0


class Running:
    """A process that takes note of how it is ended."""

    path, pid = "/nowhere", 4711

    def __init__(self):
        self.ended = []

    def hide(self):
        self.ended.append("hide")

    async def dump(self):
        self.ended.append("dump")

    async def leave(self):
        self.ended.append("leave")

    async def kill(self):
        self.ended.append("kill")
        return "was ended"


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_process_whose_start_is_called_off_is_ended_once_it_is_there(is_there):
    """It would else be loaded beside those that there is room for, and belong to none."""
    process, begun, go = Running(), asyncio.Event(), asyncio.Event()

    async def start(_):
        begun.set()
        await go.wait()
        if not is_there:
            raise OSError("no memory")
        return process

    spec = ProcessSpec(name="a", plugin="echo", settings=b"", environment={}, policy=RestartPolicy())
    keeper = Keeper(spec, start, lambda _: None)
    keeper.begin()
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        ending = asyncio.create_task(keeper.end())
        await asyncio.sleep(0)
        go.set()
        await ending
    assert process.ended == (["kill"] if is_there else [])
