"""The engine before llama.cpp's server keeps the contract, with the built-in model."""

import json
from pathlib import Path

import pytest

from gateway.testing.contract import EngineContract, ThoughtRules, ToolRules
from tests.support.llama import make_llama, needs_llama
from tests.support.tiny_gguf import make_tiny_gguf
from tests.support.tiny_models import make_tiny
from tests.support.tool_templates import TEMPLATES
from tests.test_documentation import able

pytestmark = [needs_llama, pytest.mark.slow]
PATIENCE, CONTEXT = 60.0, 4096
# It opens a thought, and shuts it at once where the model is not to think.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}"
)


class TestLlamaCpp(EngineContract):
    slow_tokens = 1900
    patience = PATIENCE

    @pytest.fixture
    def make_engine(self):
        return lambda: make_llama(threads=1, places=4, context_window=CONTEXT)

    async def test_its_column_of_the_table_is_its_card(self, engine):
        (card,) = engine.models()
        assert card.capabilities == able("llamacpp")


def tiny(folder: Path, template: str) -> str:
    """Write a tiny model of random weights, with a chat template and room for it."""
    made = make_tiny("llama", folder / "model")
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    (made / "chat_template.jinja").write_text(template)
    return str(make_tiny_gguf(made, folder / "tiny.gguf"))


@pytest.fixture(scope="module")
def calling(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("calling"), TEMPLATES["hermes"])


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """A model that thinks where it is told to, and never comes to its end."""
    return tiny(tmp_path_factory.mktemp("thinking"), THINKING)


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
