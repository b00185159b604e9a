"""A dialect is one folder and one word: this one, of thirty lines of code, is spoken like the others."""

import json

import msgspec
import pytest
from litestar.testing import TestClient

from gateway.api.exchange.asked import Prompts
from gateway.api.exchange.dialect import Dialect, Endpoint, Parameters, Rendering
from gateway.api.exchange.route import RouteDoc, generation
from gateway.api.http.problems import ErrorWords
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc
from gateway.api.reference.operation import generation as described
from gateway.api.routes import DIALECTS
from gateway.app import create_app
from gateway.config import Config, EngineSettings
from gateway.engine import Completion, Delta, GenerateRequest, Sampling


# The dialect, from here …
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


DECODER = msgspec.json.Decoder(ToyBody)
ENDPOINT = Endpoint(decoder=DECODER, to_prompts=to_prompts, to_rendering=lambda *_: ToyRendering(), reword=reword)
ERRORS = ErrorWords(schema=ToyReply, to_body=lambda problem, _: ToyReply(f"{problem.param}: {problem.message}"))
OPERATION = described(BodyDoc(ToyBody, {}), ReplyDoc(ToyReply, ToyReply("hi")), StreamDoc([ToyReply], "Pieces.", ""))
DOC = RouteDoc(name="toy", tag="toy", summary="Toy", description="Say.", operation=OPERATION, errors=ERRORS)
TABLE = {"toy": lambda card: Parameters(("ask", "words"), (), ())}
SCHEMAS, ROUTES = (ToyBody, ToyReply), generation("/toy", ENDPOINT, DOC)
TOY = Dialect("toy", "A toy.", ROUTES, SCHEMAS, parameters=TABLE, paths=("/toy",), errors=ERRORS)
# … to here.


@pytest.fixture(scope="module")
def client():
    config = Config(engines={"default": EngineSettings(plugin="echo")})
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
    answers = [
        client.post("/toy", json=body)
        for body in ({"ask": "a", "words": -1}, {"ask": 1}, {"ask": "a", "model": "none"})
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 404]
    assert [answer.json()["say"].partition(":")[0] for answer in answers] == ["words", "ask", "model"]
    assert client.post("/v1/generate", json={}).json()["error"]["code"] == "invalid_value"


def test_a_toy_dialect_is_documented(client):
    document = client.get("/schema/openapi.json").json()
    assert "A toy." in [tag["description"] for tag in document["tags"]]
    written = document["paths"]["/toy"]["post"]
    assert written["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ToyBody")
    assert document["components"]["schemas"]["ToyBody"]["properties"].keys() == {"ask", "model", "stream", "words"}
    assert written["responses"]["503"]["content"]["application/json"]["schema"]["$ref"].endswith("/ToyReply")


def test_a_toy_dialect_says_what_becomes_of_its_parameters(client):
    routes = client.get("/v1/models/echo/capabilities").json()["routes"]
    assert routes["toy"]["honoured"] == ["ask", "words"]
    assert "chat.completions" in routes
