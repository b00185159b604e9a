"""The engine that hosts another on a Ray cluster keeps the contract: echo in two replicas."""

from importlib.util import find_spec

import pytest

from gateway.engine import Completion
from gateway.testing.contract import EngineContract
from tests.support.ray_cluster import cluster, hosted

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: uv sync --extra ray"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own libraries
]


@pytest.fixture(scope="module")
def ray_cluster():
    with cluster() as started:
        yield started


class TestRay(EngineContract):
    @pytest.fixture
    def make_engine(self, ray_cluster):
        return lambda: hosted("echo", delay=0.01)

    def prompt_for(self, answer):
        return Completion(answer)
