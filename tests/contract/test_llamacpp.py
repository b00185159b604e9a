"""The engine before llama.cpp's server keeps the contract, with the built-in model."""

import pytest

from gateway.testing.contract import EngineContract, ThoughtRules, ToolRules
from tests.support.llama import THINKING, make_llama, needs_llama, tiny_file
from tests.support.tool_templates import TEMPLATES
from tests.test_documentation import able

pytestmark = [needs_llama, pytest.mark.slow]
PATIENCE, CONTEXT = 60.0, 4096


class TestLlamaCpp(EngineContract):
    slow_tokens = 1900
    patience = PATIENCE

    @pytest.fixture
    def make_engine(self):
        return lambda: make_llama(threads=1, places=4, context_window=CONTEXT)

    async def test_its_column_of_the_table_is_its_card(self, engine):
        (card,) = engine.models()
        assert card.capabilities == able("llamacpp")


@pytest.fixture(scope="module")
def calling(tmp_path_factory):
    return tiny_file(tmp_path_factory.mktemp("calling"), TEMPLATES["hermes"], CONTEXT)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """A model that thinks where it is told to, and never comes to its end."""
    return tiny_file(tmp_path_factory.mktemp("thinking"), THINKING, CONTEXT)


class TestLlamaCppThatCalls(ToolRules):
    patience = PATIENCE

    @pytest.fixture
    def make_engine(self, calling):
        return lambda: make_llama(model=calling, threads=1, places=2, context_window=CONTEXT)


class TestLlamaCppThatThinks(ThoughtRules):
    patience = PATIENCE

    @pytest.fixture
    def make_engine(self, thinking):
        return lambda: make_llama(model=thinking, threads=1, places=2, context_window=CONTEXT)
