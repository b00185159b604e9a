"""The scripted engine keeps the contract while its script is an obedient one."""

import re

import msgspec
import pytest
from msgspec import structs

from gateway.engine import Capability, Choice, Completion, JsonObject, Regex
from gateway.testing.contract import ConstraintRules, EngineContract, PairRules, StandbyRules, ThoughtRules, ToolRules
from gateway.testing.script import Script, ScriptedCall
from gateway.testing.scripted import ScriptedEngine, Settings

CALLS = tuple(
    ScriptedCall(name=name, id=f"call-{name}", arguments=('{"city": ', '"Rome"}'))
    for name in ("get_weather", "get_time")
)


def making(script, *capabilities):
    """Make what makes an engine that plays a script, and says that it can."""
    listed = Settings().capabilities | set(capabilities)
    return lambda: ScriptedEngine(Settings(script=script, capabilities=listed))


class TestScripted(EngineContract):
    @pytest.fixture
    def make_engine(self):
        return lambda: ScriptedEngine(Settings())

    def prompt(self, engine, text):
        script = Script(texts=tuple(re.findall(r"\S+\s*", text)), delay=0.01)
        return Completion(msgspec.json.encode({"script": script}).decode())

    def prompt_for(self, answer):
        return self.prompt(None, answer)


class TestScriptedThatThinks(ThoughtRules):
    @pytest.fixture
    def make_engine(self):
        script = Script(thoughts=("So ",) * 40, texts=("red",))
        return making(script, Capability.REASONING, Capability.REASONING_BUDGET, Capability.CHOICE)


class TestScriptedThatCalls(ToolRules):
    @pytest.fixture
    def make_engine(self):
        return making(Script(texts=(), calls=CALLS), Capability.TOOLS, Capability.PARALLEL_TOOL_CALLS)


class TestScriptedThatIsHeld(ConstraintRules):
    @pytest.fixture
    def make_engine(self):
        return making(Script(), Capability.CHOICE, Capability.REGEX, Capability.JSON_OBJECT)

    def stream(self, engine, request):
        """Ask with a script that keeps to the constraint, as a model would."""
        match request.constraint:
            case Choice((said, *_)):
                texts = tuple(re.findall(r"\S+\s*", said))
            case Regex():
                texts = ("4", "2")
            case JsonObject():
                texts = ("{", "}")
            case _:
                texts = ()
        told = Completion(msgspec.json.encode({"script": Script(texts=texts)}).decode())
        return super().stream(engine, structs.replace(request, prompt=told))


class TestScriptedThatStandsBy(StandbyRules):
    @pytest.fixture
    def make_engine(self):
        return making(Script(texts=("so ",) * 1000, delay=0.01), Capability.STANDBY)


class TestScriptedThatJudges(PairRules):
    @pytest.fixture
    def make_engine(self):
        return making(Script(), Capability.SCORE, Capability.CLASSIFY)
