"""The engine keeps the rules of vectors with the built-in model for them."""

import pytest

from gateway.testing.contract import VectorRules
from gateway_hf import build
from gateway_hf.settings import Settings


class TestVectors(VectorRules):
    @pytest.fixture
    def make_engine(self):
        return lambda: build(Settings(model="builtin-embedding"))
