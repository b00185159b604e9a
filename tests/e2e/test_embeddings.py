"""Vectors over HTTP from the built-in model for them: the official SDK, llama.cpp's words, and what is refused."""

import base64
import struct

import httpx
import openai
import pytest

from tests.support.batches import Lines, ended, lines_of
from tests.support.observe import is_error
from tests.support.service import Service

MODEL = "all-minilm-l6-v2"
TEXTS = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock markets fell on Monday."]


@pytest.fixture(scope="module")
def house():
    """An echo, and a model that makes vectors."""
    with Service(
        LLM_GATEWAY__ENGINES__VECTORS__PLUGIN="hf", LLM_GATEWAY__ENGINES__VECTORS__SETTINGS__MODEL="builtin-embedding"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(house):
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def post(house, path="/v1/embeddings", **body):
    return house.client.post(path, json={"model": MODEL} | body, timeout=60)


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_sdk_gets_vectors_that_know_what_a_text_is_about(client):
    made = client.embeddings.create(model="builtin-embedding", input=TEXTS)
    cat, kitten, market = (each.embedding for each in made.data)
    assert [each.index for each in made.data] == [0, 1, 2]
    assert {len(each) for each in (cat, kitten, market)} == {384}
    assert dot(cat, cat) == pytest.approx(1, abs=1e-3)
    assert dot(cat, kitten) > 3 * abs(dot(cat, market))
    assert made.model == MODEL
    assert made.usage.prompt_tokens == made.usage.total_tokens > len(TEXTS)


def test_numbers_and_bytes_are_one_vector_and_a_shorter_one_is_its_beginning(house):
    numbers = post(house, input=TEXTS[0]).json()["data"][0]["embedding"]
    told = post(house, input=[TEXTS[0]], encoding_format="base64").json()["data"][0]["embedding"]
    assert list(struct.unpack("<384f", base64.b64decode(told))) == numbers
    short = post(house, input=TEXTS[0], dimensions=64).json()["data"][0]["embedding"]
    assert len(short) == 64
    assert dot(short, short) == pytest.approx(1, abs=1e-3)
    assert dot(short, numbers[:64]) == pytest.approx(dot(numbers[:64], numbers[:64]) ** 0.5, abs=1e-3)


def test_tokens_are_texts_that_are_read_already(house):
    ids = post(house, "/tokenize", prompt=TEXTS[0]).json()["tokens"]
    by_text, by_ids, by_list = (post(house, input=given).json() for given in (TEXTS[0], ids, [ids]))
    assert by_text == by_ids == by_list
    (vector,) = post(house, "/embedding", content=TEXTS[0]).json()
    assert vector == {"index": 0, "embedding": [by_text["data"][0]["embedding"]]}
    assert post(house, "/embeddings", input=TEXTS[0]).json() == by_text


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", [1]]}, "input", "invalid_value"),
        ({"input": ["a", 1]}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": [1 << 30]}, "input", "invalid_value"),
        ({"input": [[]]}, "input", "invalid_value"),
        ({"input": "a " * 400}, "input", "context_length_exceeded"),
        ({"input": "a", "dimensions": 0}, "dimensions", "invalid_value"),
        ({"input": "a", "dimensions": 385}, "dimensions", "unsupported_parameter"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"input": "a", "input_type": "poem"}, "input_type", "invalid_value"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "invalid_value"),
        ({"input": "a b c", "truncate_prompt_tokens": 2}, "truncate_prompt_tokens", "invalid_value"),
        ({"input": "a", "model": "echo"}, "model", "unsupported_parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(house, body, param, code):
    assert is_error(post(house, **body), 400, code, param)


def test_a_long_text_is_cut_where_that_is_asked_for(house):
    made = post(house, input="a " * 400, truncate_prompt_tokens=-1)
    assert made.json()["usage"]["prompt_tokens"] == 256
    assert post(house, input="a " * 400, truncate_prompt_tokens=9).json()["usage"]["prompt_tokens"] == 9


def test_a_large_reply_is_told_as_bytes(house):
    short = ["a"] * 2_048
    made = post(house, input=short, encoding_format="base64")
    assert len(made.json()["data"]) == len(short)
    refused = post(house, "/embedding", content=short)
    assert is_error(refused, 400, "invalid_value", "content")


def test_a_model_of_vectors_answers_nothing_else(house):
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    assert is_error(post(house, "/v1/chat/completions", **asked), 400, "unsupported_parameter", "messages")
    assert is_error(post(house, "/v1/completions", prompt="hi"), 400, "unsupported_parameter", "prompt")


def test_a_client_that_leaves_ends_its_question(house):
    with pytest.raises(httpx.ReadTimeout):
        house.client.post("/v1/embeddings", json={"model": MODEL, "input": ["a long text " * 60] * 2_000}, timeout=0.5)
    assert post(house, input="a").status_code == 200


def test_a_batch_has_the_vectors_that_its_texts_have(client):
    lines = Lines("/v1/embeddings").add_all({"model": MODEL, "input": text} for text in TEXTS)
    lines.add({"model": MODEL, "input": []})
    given = client.files.create(file=("texts.jsonl", lines.content), purpose="batch")
    wrong = client.batches.create(input_file_id=given.id, endpoint=lines.url, completion_window="1h")
    assert [fault.line for fault in ended(client, wrong, 60).errors.data] == [len(TEXTS) + 1]
    right = Lines("/v1/embeddings").add_all({"model": MODEL, "input": text} for text in TEXTS)
    given = client.files.create(file=("texts.jsonl", right.content), purpose="batch")
    made = client.batches.create(input_file_id=given.id, endpoint=right.url, completion_window="1h")
    over = ended(client, made, 60)
    assert (over.status, over.model, over.usage.output_tokens) == ("completed", MODEL, 0)
    for text, line in zip(TEXTS, lines_of(client, over.output_file_id), strict=True):
        answer = openai.types.CreateEmbeddingResponse.model_validate(line["response"]["body"])
        alone = client.embeddings.create(model=MODEL, input=text)
        assert dot(answer.data[0].embedding, alone.data[0].embedding) == pytest.approx(1, abs=1e-4)
