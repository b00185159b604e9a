"""The engine before llama.cpp's server keeps the contract, with the built-in model."""

import pytest

from gateway.testing.contract import EngineContract
from tests.support.llama import make_llama, needs_llama

pytestmark = [needs_llama, pytest.mark.slow]


class TestLlamaCpp(EngineContract):
    slow_tokens = 1900

    @pytest.fixture
    def make_engine(self):
        return lambda: make_llama(threads=1, places=4, context_window=4096)
