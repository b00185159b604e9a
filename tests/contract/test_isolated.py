"""Engines keep the contract across the border of a process of their own."""

import re

import msgspec
import pytest

from gateway.engine import Completion
from gateway.testing.contract import EngineContract
from gateway.testing.script import Script
from tests.support.border import isolated


class TestIsolatedEcho(EngineContract):
    @pytest.fixture
    def make_engine(self):
        return lambda: isolated("echo", delay=0.01)

    def prompt_for(self, answer):
        return Completion(answer)


class TestIsolatedScripted(EngineContract):
    @pytest.fixture
    def make_engine(self):
        return lambda: isolated("scripted")

    def prompt(self, engine, text):
        script = Script(texts=tuple(re.findall(r"\S+\s*", text)), delay=0.01)
        return Completion(msgspec.json.encode({"script": script}).decode())

    def prompt_for(self, answer):
        return self.prompt(None, answer)
