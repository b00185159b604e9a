"""The engine before a gateway whose engine is `hf` keeps the contract: every capability comes through."""

import json

import pytest

from gateway.testing.contract import EngineContract, ThoughtRules
from gateway_openai import Settings, build
from tests.support.service import Service
from tests.support.tiny_models import CHAT_TEMPLATE, make_tiny

pytestmark = pytest.mark.slow
CONTEXT = 32_768


def serve(folder, context):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    settings = {"DTYPE": "float32", "THREADS": "1"}
    named = {f"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__{name}": value for name, value in settings.items()}
    return Service(ENGINE="hf", MODEL_NAME=str(folder), LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED="true", **named)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    with serve(make_tiny("llama", tmp_path_factory.mktemp("tiny")), CONTEXT) as service:
        yield service


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """A service whose model's template opens a thought, which it would never close."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("thinker"))
    template = CHAT_TEMPLATE.replace("assistant\n'", "assistant\n<think>\n'") + "{# </think> #}"
    (folder / "chat_template.jinja").write_text(template)
    with serve(folder, 2048) as service:
        yield service


class TestOpenAiBeforeHf(EngineContract):
    slow_tokens = CONTEXT // 2
    names_stops = False

    @pytest.fixture
    def make_engine(self, upstream):
        return lambda: build(Settings(base_url=f"{upstream.url}/v1", places=8))


class TestOpenAiBeforeHfThatThinks(ThoughtRules):
    @pytest.fixture
    def make_engine(self, thinking):
        return lambda: build(Settings(base_url=f"{thinking.url}/v1", places=8))
