"""Every question of the `Engine` interface crosses the border, also one that it does not have yet."""

import inspect
from collections.abc import Sequence

import pytest

from gateway.engine import (
    Chat,
    Completion,
    Embeddings,
    EmbedRequest,
    Engine,
    EngineError,
    EngineMethod,
    GenerateRequest,
    Health,
    Message,
    ModelCard,
    PromptReading,
    ScoreRequest,
    Status,
    Text,
    TextScores,
    Tokens,
    TokenSpelling,
    Unsupported,
    UpstreamFailed,
    forward,
)
from gateway.engine.methods import METHODS
from gateway.isolation import IsolatedEngine, RemoteEngine
from tests.support.border import across, served

CHAT = Chat((Message("user", (Text("hi"),)),))
# A call and its result, for each question.
EXAMPLES = {
    "embed": ((EmbedRequest(id="1", model="m", inputs=(Completion("a"),)),), Embeddings((b"\0\0\0\x3f",), 1)),
    "score": (
        (ScoreRequest(id="1", model="m", documents=(Completion("a"),), queries=(Completion("b"),), raw=True),),
        TextScores((b"\0\0\0\x3f",), 1, ("a",)),
    ),
    "count_tokens": (("m", Tokens((1, 2))), 2),
    "tokenize": (("m", Completion("a b", add_special=False)), (1, 2)),
    "detokenize": (("m", (1, 2)), ("a", " b")),
    "spell": (("m", (1, 2)), (TokenSpelling("a", b"a"), TokenSpelling("Ġb", b" b"))),
    "render": (("m", CHAT), "<user>hi"),
    "tokenizer_info": (("m",), {"tokenizer_class": "T"}),
    "explain": (
        (GenerateRequest(id="1", model="m", prompt=CHAT),),
        PromptReading(prompt_tokens=2, ids=(1, 2), text="<user>hi", cached_tokens=1, max_tokens=6),
    ),
    "probe": ((), True),
    "status": ((), Status(health=Health.READY, running=2, cache_used=64)),
}


class Recorder(Engine):
    """Answers every question with its example, and keeps the arguments."""

    def __init__(self):
        self.arguments = {}

    def models(self):
        return (ModelCard(name="m", context_window=8, capabilities=frozenset()),)

    async def generate(self, request):
        raise NotImplementedError
        yield


def answering(name, result):
    async def question(self, *arguments):
        self.arguments[name] = arguments
        return result

    return question


for question, (_, answer) in EXAMPLES.items():
    setattr(Recorder, question, answering(question, answer))


class Translating(Recorder):
    """The interface with one more question, which has a default."""

    async def translate(self, model: str, texts: Sequence[str], times: int = 2) -> dict[str, Status]:
        self.arguments["translate"] = (model, texts, times)
        return {text * times: Status(health=Health.READY) for text in texts}


def test_every_method_of_the_interface_is_a_question_or_has_its_own_way():
    """`generate` is a stream, and the cards that `models` returns are sent once."""
    public = {name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")}
    assert public - METHODS.keys() == {"models", "generate"}
    assert METHODS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
async def test_every_question_crosses_the_border(name):
    arguments, result = EXAMPLES[name]
    recorder = Recorder()
    async with across(recorder) as remote:
        assert await getattr(remote, name)(*arguments) == result
    # A sequence arrives as a list.
    arrived = [tuple(argument) if isinstance(argument, list) else argument for argument in recorder.arguments[name]]
    assert tuple(arrived) == arguments


@pytest.mark.parametrize("kind", [RemoteEngine, IsolatedEngine])
def test_no_question_is_left_to_the_defaults_of_the_interface(kind):
    assert [name for name in METHODS if getattr(kind, name) is getattr(Engine, name)] == []


async def test_a_question_that_the_interface_gets_needs_no_other_line(monkeypatch):
    translate = EngineMethod("translate", Translating.translate)
    monkeypatch.setitem(METHODS, "translate", translate)
    monkeypatch.setattr(RemoteEngine, "translate", forward(translate), raising=False)
    engine = Translating()
    async with across(engine) as remote:
        assert await remote.translate("m", ("a", "b")) == dict.fromkeys(("aa", "bb"), Status(health=Health.READY))
        assert await remote.translate("m", texts=("a",), times=3) == {"aaa": Status(health=Health.READY)}
        with pytest.raises(TypeError):
            await remote.translate("m")
    assert engine.arguments["translate"] == ("m", ["a"], 3)


async def test_arguments_may_be_named():
    async with across(Recorder()) as remote:
        assert await remote.count_tokens(prompt=Completion("a"), model="m") == 2


@pytest.mark.parametrize("result", ["many", 2.5, None, {"tokens": 2}])
async def test_a_result_of_another_type_fails_its_call_and_no_other(monkeypatch, result):
    monkeypatch.setattr(Recorder, "count_tokens", answering("count_tokens", result))
    async with across(Recorder()) as remote:
        with pytest.raises(UpstreamFailed, match="'count_tokens'"):
            await remote.count_tokens("m", Completion("a"))
        assert await remote.render("m", CHAT) == "<user>hi"


async def test_a_result_that_cannot_be_sent_fails_its_call_and_no_other(monkeypatch, caplog):
    monkeypatch.setattr(Recorder, "render", answering("render", "\ud800"))
    async with across(Recorder()) as remote:
        with pytest.raises(EngineError, match="the log says why"):
            await remote.render("m", CHAT)
        assert await remote.count_tokens("m", Completion("a")) == 2
    assert "Unsendable" in caplog.text


async def test_a_question_that_an_engine_leaves_to_the_interface_is_refused_by_it():
    class Mute(Recorder):
        count_tokens = Engine.count_tokens

    async with served(Mute()) as (_, path), RemoteEngine(path) as remote:
        with pytest.raises(Unsupported, match="does not count"):
            await remote.count_tokens("m", Completion("a"))


def test_arguments_that_have_no_place_are_refused_where_the_interface_is_read():
    async def question(self, *, name: str) -> str:
        raise NotImplementedError

    with pytest.raises(TypeError, match=r"Engine\.question"):
        EngineMethod("question", question)
