"""Run a coroutine and cancel it at its n-th step: so every await of it is cancelled once."""

import asyncio


async def cancelled_at(step, work):
    """Cancel `work()` after `step` turns of the loop; say whether it was still running then."""
    task = asyncio.create_task(work())
    for _ in range(step):
        await asyncio.sleep(0)
        if task.done():
            await task
            return False
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return True
