"""The engine before a server keeps the contract: a service of ours, over HTTP, with an echo in it."""

from typing import Any

import pytest

from gateway.engine import Completion
from gateway.testing.contract import EngineContract, ThoughtRules
from gateway_openai import Settings, build
from tests.support.service import Service

SETTINGS = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
ECHO: dict[str, Any] = {f"{SETTINGS}DELAY": "0.02", f"{SETTINGS}CONTEXT_WINDOW": "1024", f"{SETTINGS}PLACES": "64"}


TOO_LONG = {
    name: "it asks eight times the text, which is longer than this server's context: see the class below"
    for name in vars(ThoughtRules)
    if name.startswith("test_")
}


@pytest.fixture(scope="module")
def upstream():
    with Service(**ECHO) as service:
        yield service


class TestOpenAi(EngineContract):
    text = "Once upon a time there was " * 80  # an echo ends with its prompt
    names_stops = False
    excused = TOO_LONG

    @pytest.fixture
    def make_engine(self, upstream):
        return lambda: build(Settings(base_url=f"{upstream.url}/v1", places=8))

    def prompt_for(self, answer):
        return Completion(answer)


class TestOpenAiThatThinks(ThoughtRules):
    @pytest.fixture
    def make_engine(self, upstream):
        return lambda: build(Settings(base_url=f"{upstream.url}/v1", places=8))
