"""A model that is another one with an adapter keeps the rules of answers and places."""

import json

import pytest

from gateway.engine import load
from gateway.testing.contract import AnswerRules, PlaceRules
from gateway_hf.loading import weights
from tests.support.hf_engine import unmeasured
from tests.support.tiny_adapters import make_adapter
from tests.support.tiny_models import make_tiny

CONTEXT = 32_768


@pytest.fixture(autouse=True)
def _choice(monkeypatch):
    """Choose a way to compute, and measure none."""
    monkeypatch.setattr(weights, "tune", unmeasured)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A random model with a context so long that it takes more than ten seconds to fill, and an adapter of it."""
    folder = tmp_path_factory.mktemp("adapted")
    base = make_tiny("llama", folder / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return base, make_adapter(base, folder / "adapter")


class TestHfWithAnAdapter(AnswerRules, PlaceRules):
    slow_tokens = CONTEXT // 2

    @pytest.fixture
    def make_engine(self, folders):
        base, adapter = map(str, folders)
        plugin = load("hf")
        settings = plugin.settings(model=base, dtype="float32", threads=1, adapters={"adapted": adapter})
        return lambda: plugin.build(settings)

    def card(self, engine):
        return next(card for card in self.cards(engine) if card.parent)
