"""A real Ray cluster of this machine puts replicas where their resources are, and scales them by load."""

import asyncio
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec

import pytest

from gateway.engine import Completion, GenerateRequest, collect
from tests.support.ray_cluster import APP, cluster, hosted

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: uv sync --extra ray"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own libraries
    pytest.mark.slow,  # a cluster takes half a minute, and Ray averages its load over another
]

PATIENCE = 120.0


async def until(holds):
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - Ray tells of nothing
            await asyncio.sleep(0.2)


def running():
    """Count the replicas that serve."""
    from ray import serve  # noqa: PLC0415 - an extra

    states = serve.status().applications[APP].deployments["engine"].replica_states
    return sum(count for kind, count in states.items() if kind == "RUNNING")


def free(resource):
    """Return how much of a resource no replica has."""
    import ray  # noqa: PLC0415 - an extra

    return ray.available_resources().get(resource, 0.0)


@asynccontextmanager
async def load(engine, clients):
    """Have so many clients ask without a pause while the block runs; every answer is whole."""
    over, name = asyncio.Event(), engine.models()[0].name

    async def client(number):
        asked = GenerateRequest(id=f"{number}", model=name, prompt=Completion("a b c d " * 10), timeout=PATIENCE)
        while not over.is_set():
            assert (await collect(engine.generate(asked))).text.startswith("a b c d")

    asking = [asyncio.create_task(client(number)) for number in range(clients)]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*asking)


async def test_replicas_come_with_load_and_go_with_it():
    scaled = {"min": 1, "max": 2, "ongoing": 2, "up_seconds": 1, "down_seconds": 1}
    with cluster():
        async with hosted("echo", replicas=scaled, delay=0.01) as engine:
            assert await asyncio.to_thread(running) == 1
            assert engine.models()[0].places == 2 * 8, "as many as the most replicas have"
            async with load(engine, 6):
                await until(lambda: running() == 2)
            async with load(engine, 1):
                await until(lambda: running() == 1)


@pytest.mark.parametrize(
    ("resources", "node", "taken"),
    [
        ({"cpus": 0.5, "custom": {"fast_disk": 1}}, {"resources": {"fast_disk": 1}}, "fast_disk"),
        ({"cpus": 0.5, "gpus": 1}, {"num_gpus": 1}, "GPU"),  # as many as a node says that it has
    ],
    ids=["custom", "gpu"],
)
async def test_a_replica_waits_for_a_node_with_its_resources(resources, node, taken):
    with cluster() as started:
        entering = asyncio.create_task(hosted("echo", replicas=1, resources=resources).__aenter__())
        await until(is_deploying)
        assert not entering.done()
        started.add_node(num_cpus=1, **node)
        engine = await asyncio.wait_for(entering, PATIENCE)
        await until(lambda: not free(taken))
        await engine.__aexit__(None, None, None)


def is_deploying():
    """Tell whether Ray Serve has the application, and looks for a place for it."""
    from ray import serve  # noqa: PLC0415 - an extra

    with suppress(Exception):  # Serve is started only now; until then it means that of the last cluster
        found = serve.status().applications.get(APP)
        return found is not None and found.status == "DEPLOYING"
    return False
