"""The engine keeps the rules of vectors and pairs with the built-in model for vectors, and with tiny ones for pairs."""

import pytest

from gateway.testing.contract import PairRules, VectorRules
from gateway_hf import build
from gateway_hf.settings import Settings
from tests.support.tiny_encoders import make_cross_encoder


class TestVectors(VectorRules, PairRules):
    @pytest.fixture
    def make_engine(self):
        return lambda: build(Settings(model="builtin-embedding"))


class TestCrossEncoder(PairRules):
    text = "The quick fox"

    @pytest.fixture
    def make_engine(self, tmp_path):
        folder = make_cross_encoder("bert", tmp_path)
        return lambda: build(Settings(model=str(folder), dtype="float32", threads=1))
