"""The echo engine keeps the contract."""

import pytest

from gateway.engine import Completion
from gateway.testing.contract import EngineContract
from gateway_echo import EchoEngine, Settings


class TestEcho(EngineContract):
    @pytest.fixture
    def make_engine(self):
        return lambda: EchoEngine(Settings(delay=0.01))

    def prompt_for(self, answer):
        return Completion(answer)
