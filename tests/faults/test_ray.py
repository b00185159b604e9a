"""A replica or a node of a Ray cluster that dies costs answers that had begun, and nothing else; none hangs."""

import asyncio
from collections import Counter
from importlib.util import find_spec

import pytest

from gateway.engine import (
    Capability,
    Completion,
    EngineError,
    EngineRestarted,
    GenerateRequest,
    Health,
    Started,
    collect,
)
from tests.support.border import scripted
from tests.support.ray_cluster import cluster, hosted, kill_a_replica

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: uv sync --extra ray"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own libraries
    pytest.mark.slow,  # each cluster takes half a minute to start and to heal
]

PATIENCE = 60.0
ANSWERS = 12


@pytest.fixture
def one_node():
    with cluster() as started:
        yield started


@pytest.fixture
def two_nodes():
    with cluster(nodes=1, cpus=1) as started:
        yield started


async def outcome(engine, request, started):
    """Read an answer to its end; return `answered`, or the error's code."""
    try:
        async for event in engine.generate(request):
            if isinstance(event, Started):
                started.release()
    except EngineError as error:
        return error.code
    return "answered"


async def outcomes(engine, strike, *, after, **script):
    """Ask for many answers at once, strike when `after` of them have started, and count what became of them."""
    started = asyncio.Semaphore(0)
    requests = [scripted(number, PATIENCE, **script) for number in range(ANSWERS)]
    tasks = [asyncio.create_task(outcome(engine, request, started)) for request in requests]
    async with asyncio.timeout(2 * PATIENCE):
        if after:
            for _ in range(after):
                await started.acquire()
        else:
            while (await engine.status()).waiting < ANSWERS:  # noqa: ASYNC110 - a status sets no event
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # until replicas have them
        await asyncio.to_thread(strike)
        return Counter(await asyncio.gather(*tasks))


async def test_a_killed_replica_costs_answers_that_had_begun_and_its_place_is_taken(one_node):
    async with hosted("scripted") as engine:
        begun = await outcomes(engine, lambda: kill_a_replica(one_node), after=ANSWERS, delay=1.0)
        assert set(begun) == {"answered", EngineRestarted.code}
        async with asyncio.timeout(2 * PATIENCE):
            while (await engine.status()).health is not Health.READY:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        waiting = await outcomes(engine, lambda: kill_a_replica(one_node), after=0, prefill=3.0)
        assert waiting == {"answered": ANSWERS}


async def test_a_killed_node_costs_answers_that_had_begun(two_nodes):
    async with hosted("scripted", per_node=1) as engine:
        node = next(iter(two_nodes.worker_nodes))

        def strike():
            two_nodes.remove_node(node, allow_graceful=False)

        found = await outcomes(engine, strike, after=ANSWERS, delay=1.0)
        assert set(found) == {"answered", EngineRestarted.code}
        answer = await collect(engine.generate(scripted(0, PATIENCE)))
        assert answer.text == "Once upon a time."


async def test_other_settings_replace_the_replicas_and_the_same_find_them(one_node):
    def ask(engine):
        return GenerateRequest(id="r", model=engine.models()[0].name, prompt=Completion("a b c"), timeout=PATIENCE)

    async with hosted("echo", model="first") as engine:
        assert Capability.TOOLS in engine.models()[0].capabilities
        assert (await collect(engine.generate(ask(engine)))).text == "a b c"
    async with hosted("echo", model="second") as engine:
        assert [card.name for card in engine.models()] == ["second"]
        assert (await collect(engine.generate(ask(engine)))).text == "a b c"
