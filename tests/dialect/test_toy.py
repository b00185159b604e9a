"""A dialect is one folder and one word: this one, of thirty lines of code, is spoken like the others."""

import json

import msgspec
import pytest
from litestar.testing import TestClient

from gateway.api.exchange.asked import Prompts
from gateway.api.exchange.dialect import Dialect, Endpoint, Parameters, Rendering
from gateway.api.http.problems import ErrorWords
from gateway.api.http.sse import Framing
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc
from gateway.api.reference.operation import generation as described
from gateway.api.routes import DIALECTS
from gateway.app import create_app
from gateway.config import Config, EngineSettings
from gateway.engine import Completion, Delta, GenerateRequest, Sampling


class ToyBody(msgspec.Struct):
    ask: str
    words: int = 16
    model: str | None = None
    stream: bool = False


class ToyReply(msgspec.Struct):
    say: str


class ToyRendering(Rendering):
    def to_piece(self, index, event):
        return b"data: %b\n\n" % msgspec.json.encode(ToyReply(event.text)) if isinstance(event, Delta) else b""

    def to_reply(self, answers, usage):
        return msgspec.json.encode(ToyReply(answers[0].text))


def to_prompts(body, asking):
    prompt, sampling = Completion(body.ask), Sampling(max_tokens=body.words)
    return Prompts((GenerateRequest(id=asking.request_id, model=asking.card.name, prompt=prompt, sampling=sampling),))


def reword(error, body):
    error.param = {"prompt": "ask", "max_tokens": "words"}.get(error.param, error.param)


ERRORS = ErrorWords(schema=ToyReply, to_body=lambda problem, _: ToyReply(f"{problem.param}: {problem.message}"))
DOC = described(BodyDoc(ToyBody, {}), ReplyDoc(ToyReply, ToyReply("hi")), StreamDoc([ToyReply], "Pieces.", ""))
WAY = {"to_prompts": to_prompts, "to_rendering": lambda *_: ToyRendering(), "reword": reword}
SAID = {"path": "/toy", "name": "toy", "summary": "Toy", "description": "Say.", "operation": DOC}
ENDPOINT = Endpoint(decoder=msgspec.json.Decoder(ToyBody), **SAID, **WAY)
TABLE = {"toy": lambda card: Parameters(("ask", "words"), (), ())}
SHOWN = {"parameters": TABLE, "paths": ("/toy",), "framing": Framing(errors=ERRORS)}
TOY = Dialect("toy", "A toy.", (ENDPOINT,), (ToyBody, ToyReply), **SHOWN)


@pytest.fixture(scope="module")
def client():
    config = Config(engines={name: EngineSettings(plugin=name) for name in ("echo", "scripted")})
    with TestClient(create_app(config, (*DIALECTS, TOY)), base_url="http://127.0.0.1") as client:
        yield client


def test_a_toy_dialect_answers_whole(client):
    answer = client.post("/toy", json={"ask": "one two", "loud": True})
    assert answer.json() == {"say": "one two"}
    assert answer.headers["x-ignored-params"] == "loud"
    assert client.post("/toy", json={"ask": "one two three", "words": 2}).json() == {"say": "one two "}


def test_a_toy_dialect_streams(client):
    answer = client.post("/toy", json={"ask": "one two", "stream": True})
    *frames, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert [json.loads(frame.removeprefix("data: "))["say"] for frame in frames] == ["one ", "two"]
    assert done == "data: [DONE]"


def test_a_toy_dialect_tells_errors_in_its_own_words(client):
    bodies = {"ask": "a", "words": -1}, {"ask": 1}, {"ask": "a", "model": "none"}
    answers = [client.post("/toy", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [400, 400, 404]
    assert [answer.json()["say"].partition(":")[0] for answer in answers] == ["words", "ask", "model"]
    broken = json.dumps({"script": {"texts": ["a"], "fault": "raise", "after": 1}})
    answer = client.post("/toy", json={"ask": broken, "model": "scripted", "stream": True})
    assert answer.text == 'data: {"say":"a"}\n\ndata: {"say":"None: the script says so"}\n\n'


def test_a_toy_dialect_is_documented(client):
    document = client.get("/schema/openapi.json").json()
    assert "A toy." in [tag["description"] for tag in document["tags"]]
    assert document["components"]["schemas"]["ToyBody"]["properties"].keys() == {"ask", "model", "stream", "words"}
    written = document["paths"]["/toy"]["post"]
    read = (written["requestBody"], written["responses"]["503"])
    named = [content["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2] for content in read]
    assert named == ["ToyBody", "ToyReply"]
    routes = client.get("/v1/models/echo/capabilities").json()["routes"]
    assert routes["toy"]["honoured"] == ["ask", "words"]
