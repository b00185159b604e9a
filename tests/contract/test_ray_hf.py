"""The engine that hosts another on a Ray cluster keeps the contract: hf in two replicas."""

import json
from importlib.util import find_spec

import pytest

from gateway.engine import load
from gateway.testing.contract import EngineContract
from tests.support.ray_cluster import cluster, hosted
from tests.support.tiny_models import make_tiny

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: uv sync --extra ray"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own libraries
    pytest.mark.slow,
]

CONTEXT = 32_768


@pytest.fixture(scope="module")
def ray_cluster():
    with cluster() as started:
        yield started


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model with a context so long that it takes more than ten seconds to fill."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("tiny"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return folder


class TestRayAroundHf(EngineContract):
    slow_tokens = CONTEXT // 2

    @pytest.fixture
    def make_engine(self, ray_cluster, tiny):
        return lambda: hosted("hf", model=str(tiny), dtype="float32", threads=1)

    async def test_its_card_is_that_of_the_engine_in_its_replicas(self, engine, tiny):
        (card,) = engine.models()
        async with load("hf").build(load("hf").settings(model=str(tiny), dtype="float32", threads=1)) as alone:
            assert card.capabilities == alone.models()[0].capabilities
