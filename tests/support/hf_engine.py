"""What tests of the Hugging Face engine share: requests, waiting for a state, holding its thread."""

import asyncio
import threading

from gateway.engine import (
    Completion,
    GenerateRequest,
    Sampling,
)
from gateway_hf.runner import Runner

LONG = Sampling(max_tokens=240, ignore_eos=True, temperature=0.0)
SHORT = Sampling(max_tokens=4, ignore_eos=True, temperature=0.0)


def ask(prompt="Once upon a time", sampling=SHORT, priority=0):
    prompt = Completion(prompt) if isinstance(prompt, str) else prompt
    return GenerateRequest(id="t", model="m", prompt=prompt, sampling=sampling, priority=priority)


async def until(engine, **wanted):
    """Wait until the status says what is wanted."""
    async with asyncio.timeout(20):
        while True:
            status = await engine.status()
            if all(getattr(status, name) == value for name, value in wanted.items()):
                return
            await asyncio.sleep(0.001)


class Gate:
    """Holds the engine's thread inside a forward."""

    def __init__(self, monkeypatch):
        self.inside, self.open = threading.Event(), threading.Event()
        forward = Runner._forward

        def held(runner, *args):
            self.inside.set()
            assert self.open.wait(20)
            return forward(runner, *args)

        monkeypatch.setattr(Runner, "_forward", held)

    async def reached(self):
        assert await asyncio.to_thread(self.inside.wait, 20)
