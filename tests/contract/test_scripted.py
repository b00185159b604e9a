"""The scripted engine keeps the contract while its script is an obedient one."""

import re

import msgspec
import pytest

from gateway.engine import Completion
from gateway.testing.contract import EngineContract
from gateway.testing.script import Script
from gateway.testing.scripted import ScriptedEngine, Settings


class TestScripted(EngineContract):
    @pytest.fixture
    def make_engine(self):
        return lambda: ScriptedEngine(Settings())

    def prompt(self, engine, text):
        script = Script(texts=tuple(re.findall(r"\S+\s*", text)), delay=0.01)
        return Completion(msgspec.json.encode({"script": script}).decode())

    def prompt_for(self, answer):
        return self.prompt(None, answer)
