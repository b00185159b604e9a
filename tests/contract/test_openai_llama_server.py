"""The engine before a real llama-server, with the built-in model, keeps these rules of the contract."""

import pytest

from gateway.testing.contract import ConstraintRules, LifeRules, PlaceRules, TokenRules
from gateway_openai import Settings, build
from tests.support.llama_server import PROGRAM, llama_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no llama-server: put one on the PATH, or into LLAMA_SERVER"),
]
PLACES, CONTEXT = 4, 4096


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    with llama_server(PROGRAM, tmp_path_factory.mktemp("llama"), PLACES, CONTEXT) as url:
        yield url


class TestOpenAiBeforeLlamaServer(ConstraintRules, LifeRules, PlaceRules, TokenRules):
    slow_tokens = 1900
    names_stops = False
    patience = 60.0

    @pytest.fixture
    def make_engine(self, upstream):
        return lambda: build(Settings(base_url=upstream, places=PLACES, context_window=CONTEXT))
