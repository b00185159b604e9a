"""Measure the engine `ray` around `hf`, on two nodes of this machine, beside the same engine isolated.

uv run python -m tests.load.ray_nodes
"""

import asyncio
import statistics
import time
from collections import Counter
from contextlib import aclosing

from gateway.engine import Completion, Delta, Engine, EngineError, GenerateRequest, Sampling
from tests.support.border import isolated
from tests.support.ray_cluster import cluster, hosted

CLIENTS, TOKENS, CANCELS = 32, 64, 40
PROMPT = "Once upon a time there was a"


def request(engine: Engine, number: int, tokens: int = TOKENS) -> GenerateRequest:
    """Ask for so many tokens."""
    sampling = Sampling(max_tokens=tokens, ignore_eos=True, temperature=0.0)
    prompt = Completion(f"{number} {PROMPT}")
    return GenerateRequest(
        id=f"{number}", model=engine.models()[0].name, prompt=prompt, sampling=sampling, timeout=120.0
    )


async def clients(engine: Engine, count: int = CLIENTS, tokens: int = TOKENS) -> str:
    """Have so many clients ask once, all at once; return tokens a second, the wait for the first, and what failed."""
    firsts: list[float] = []
    ends: Counter[str] = Counter()
    made = events = 0

    async def client(number: int) -> None:
        nonlocal made, events
        begun, is_first = time.monotonic(), True
        try:
            async for event in engine.generate(request(engine, number, tokens)):
                if isinstance(event, Delta):
                    if is_first:
                        firsts.append(time.monotonic() - begun)
                    is_first = False
                    made, events = made + event.tokens, events + 1
        except EngineError as error:
            ends[error.code] += 1
        else:
            ends["answered"] += 1

    begun = time.monotonic()
    await asyncio.gather(*map(client, range(count)))
    seconds = time.monotonic() - begun
    return (
        f"{made / seconds:.1f} tokens/s in {events} deltas, first after {statistics.median(firsts):.2f} s, "
        f"all {seconds:.1f} s, {dict(ends)}"
    )


async def freed(engine: Engine, number: int, *, is_held: bool) -> float:
    """Return the milliseconds until an answer begins; where the only place is held, from when it is given up."""
    if is_held:
        async with aclosing(engine.generate(request(engine, 2 * number, 256))) as stream:
            await anext(stream)
            await anext(stream)
    begun = time.monotonic()
    async with aclosing(engine.generate(request(engine, 2 * number + 1))) as stream:
        await anext(stream)
    return (time.monotonic() - begun) * 1000


async def on_this_machine() -> None:
    """Measure the engine in one process with two threads."""
    async with isolated("hf", model="builtin", threads=2) as engine:
        await clients(engine, 4, 8)
        print(f"isolated, 2 threads: {await clients(engine)}", flush=True)


async def on_two_nodes() -> None:
    """Measure two replicas of one thread, one on each node, then a cancel, then the death of a node."""
    with cluster(nodes=1, cpus=1) as started:
        async with hosted("hf", app="one", replicas=1, model="builtin", threads=1, places=1) as engine:
            await clients(engine, 1, 8)
            for is_held, what in (
                (False, "of an engine that was idle"),
                (True, "right after its last stream was closed"),
            ):
                times = sorted([await freed(engine, number, is_held=is_held) for number in range(CANCELS)])
                print(
                    f"the only place {what} is taken after {statistics.median(times):.0f} ms, {times[-1]:.0f} at most"
                )
        async with hosted("hf", app="two", per_node=1, model="builtin", threads=1) as engine:
            await clients(engine, 4, 8)
            print(f"ray, two nodes of 1 thread: {await clients(engine)}", flush=True)
            load = asyncio.create_task(clients(engine))
            await asyncio.sleep(5)
            node = next(iter(started.worker_nodes))
            await asyncio.to_thread(lambda: started.remove_node(node, allow_graceful=False))
            print(f"ray, a node killed after 5 s: {await load}", flush=True)


if __name__ == "__main__":
    asyncio.run(on_this_machine())
    asyncio.run(on_two_nodes())
