"""Clients that leave at any moment."""

import asyncio
import random

from tests.chaos.client import client
from tests.chaos.row import Row, at_most, none_of
from tests.support.processes import open_files, worker
from tests.support.service import Service

_PROMPT = " ".join(f"word{number}" for number in range(50))
_CLIENTS = 2_000
_TOGETHER = 50


async def aborts() -> list[Row]:
    """Let 2,000 clients leave at random moments; count what they leave behind."""
    with Service(
        LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.01",
        LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__PLACES="8",
        LOG_LEVEL="WARNING",
    ) as service:
        pid = worker(service.process.pid)
        async with client(service.url) as asker:
            await asker.ask(_PROMPT)
            files = open_files(pid)
            turns = asyncio.Semaphore(_TOGETHER)

            async def leave(number: int) -> None:
                async with turns:
                    asking = asyncio.create_task(asker.ask(_PROMPT, stream=number % 2 == 0))
                    await asyncio.wait({asking}, timeout=random.uniform(0, 0.2))  # noqa: S311 - no secret
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)

            await asyncio.gather(*map(leave, range(_CLIENTS)))
        await asyncio.sleep(1.0)
        held = await asyncio.to_thread(service.metric, "llm_gateway_active_requests")
        waiting = await asyncio.to_thread(service.metric, "llm_gateway_queue_depth")
        return [
            none_of("generations left", int(held), _CLIENTS),
            none_of("waiters left", int(waiting), _CLIENTS),
            at_most("descriptors more than before", open_files(pid) - files, 4),
        ]
