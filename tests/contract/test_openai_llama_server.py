"""The engine before a real llama-server keeps the contract: the built-in model, one that calls, one that thinks."""

import pytest

from gateway.testing.contract import EngineContract, ThoughtRules, ToolRules
from gateway_openai import Settings, build
from tests.support.llama import THINKING, llama_server, needs_llama, tiny_file
from tests.support.tool_templates import TEMPLATES

pytestmark = [needs_llama, pytest.mark.slow]
PLACES, CONTEXT = 4, 4096

LOST = {
    "test_text_held_back_for_a_stop_string_is_not_lost": "llama-server loses text that it held back for a stop string "
    "where the answer ends at its limit",
}


def before(url):
    """Make what makes an engine before a server."""
    return lambda: build(Settings(base_url=url, places=PLACES, context_window=CONTEXT))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    with llama_server(tmp_path_factory.mktemp("llama"), PLACES, CONTEXT) as url:
        yield url


@pytest.fixture(scope="module")
def calling(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calling")
    with llama_server(folder, PLACES, CONTEXT, tiny_file(folder, TEMPLATES["hermes"], CONTEXT)) as url:
        yield url


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinking")
    with llama_server(folder, PLACES, CONTEXT, tiny_file(folder, THINKING, CONTEXT)) as url:
        yield url


class TestOpenAiBeforeLlamaServer(EngineContract):
    slow_tokens = 1900
    names_stops = False
    patience = 60.0
    excused = LOST

    @pytest.fixture
    def make_engine(self, upstream):
        return before(upstream)


class TestOpenAiBeforeLlamaServerThatCalls(ToolRules):
    patience = 60.0
    excused = dict.fromkeys(
        (
            "test_a_tool_that_must_be_called_is_called",
            "test_one_of_the_tools_is_called_where_one_must_be",
            "test_only_tools_that_are_allowed_are_called",
            "test_calls_come_alone_where_that_is_asked",
        ),
        "llama-server's grammar has a model write what it likes before a call that must be made, and one of random "
        "weights never comes to it",
    ) | {
        "test_the_result_of_a_tool_is_read": "llama-server goes on with a last message of the assistant, and refuses "
        "one that calls",
    }

    @pytest.fixture
    def make_engine(self, calling):
        return before(calling)


class TestOpenAiBeforeLlamaServerThatThinks(ThoughtRules):
    patience = 60.0

    @pytest.fixture
    def make_engine(self, thinking):
        return before(thinking)
