"""Scores over HTTP: in the words of Cohere, Jina and vLLM, from vectors, from tiny models, and from words alone."""

import json

import pytest

from tests.support.observe import eventually, is_error
from tests.support.service import Service
from tests.support.tiny_encoders import make_cross_encoder

TEXTS = ["Stock markets fell on Monday.", "A kitten rests on a rug.", "It rained."]
MODELS = ("echo", "words", "all-minilm-l6-v2", "pairs", "classes")
QUERY = "A cat sits on the mat."
ENGINE = "LLM_GATEWAY__ENGINES__"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """An engine that judges by words, a model that makes vectors, one that scores pairs, and one with three labels."""
    folder = tmp_path_factory.mktemp("models")
    pairs = make_cross_encoder("bert", folder / "pairs")
    classes = make_cross_encoder("bert", folder / "classes", 3, id2label={"0": "bad", "1": "fair", "2": "good"})
    environment = {
        f"{ENGINE}WORDS__PLUGIN": "scripted",
        f"{ENGINE}WORDS__SETTINGS__MODEL": "words",
        f"{ENGINE}WORDS__SETTINGS__CAPABILITIES": json.dumps(["completion", "max_tokens", "stop", "score", "classify"]),
        f"{ENGINE}VECTORS__PLUGIN": "hf",
        f"{ENGINE}VECTORS__SETTINGS__MODEL": "builtin-embedding",
    }
    for name, model in (("PAIRS", pairs), ("CLASSES", classes)):
        environment |= {f"{ENGINE}{name}__PLUGIN": "hf", f"{ENGINE}{name}__SETTINGS__MODEL": str(model)}
    with Service(**environment) as running:
        eventually(lambda: len(running.client.get("/v1/models").json()["data"]) == len(MODELS), 120)
        yield running


def post(house, path, model="words", **body):
    return house.client.post(path, json={"model": model} | body, timeout=60)


def test_jinas_words(house):
    told = post(house, "/v1/rerank", query="one two", documents=["three", {"text": "two one"}, "one"], top_n=2).json()
    assert [result["index"] for result in told["results"]] == [1, 2]
    assert [result["relevance_score"] for result in told["results"]] == [1, 1]
    assert told["results"][0]["document"] == {"text": "two one"}
    assert told["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    assert (told["model"], told["object"]) == ("words", "list")
    short = post(house, "/rerank", query="one", documents=["one", "two"], return_documents=False).json()
    assert [set(result) for result in short["results"]] == [{"index", "relevance_score"}] * 2


def test_coheres_words(house):
    asked = {"query": "one two", "documents": ["three", "one two three"], "max_tokens_per_doc": 2, "rank_fields": None}
    answer = post(house, "/v2/rerank", **asked)
    told = answer.json()
    assert [result["index"] for result in told["results"]] == [1, 0]
    assert told["results"][0] == {"index": 1, "relevance_score": 1}
    assert told["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 7},
    }
    assert told["id"] == answer.headers["x-request-id"]
    first = post(house, "/v1/rerank", query="a", documents=["a"] * 101, rank_fields=["text"]).json()
    assert first["meta"]["api_version"] == {"version": "1"}
    assert first["meta"]["billed_units"] == {"search_units": 2}


def test_vllms_words(house):
    one = post(house, "/score", text_1="one two", text_2=["one", "three", "two three"]).json()
    assert [each["score"] for each in one["data"]] == [1, 0, 0.5]
    assert [each["index"] for each in one["data"]] == [0, 1, 2]
    each = post(house, "/v1/score", queries=["one", "two"], documents=["one", "one"]).json()
    assert [pair["score"] for pair in each["data"]] == [1, 0]
    assert post(house, "/v1/score", data_1="one", data_2="two").json()["data"][0]["score"] == 0
    raw = post(house, "/v1/score", text_1="one", items=["two"], use_activation=False).json()
    assert raw["data"][0]["score"] == -1
    told = post(house, "/classify", input=["a b c", "a"]).json()
    assert told["labels"] == ["short", "long"]
    assert [each["label"] for each in told["data"]] == ["long", "short"]
    assert told["data"][0] == {"index": 0, "label": "long", "probs": [0.25, 0.75], "num_classes": 2}
    assert post(house, "/v1/classify", input="a b c").json()["data"] == told["data"][:1]


def test_vectors_know_what_a_document_is_about(house):
    told = post(house, "/v1/rerank", "all-minilm-l6-v2", query=QUERY, documents=TEXTS).json()
    assert told["results"][0]["document"]["text"] == TEXTS[1]
    assert told["results"][0]["relevance_score"] > 2 * abs(told["results"][1]["relevance_score"])


def test_a_model_that_scores_pairs(house):
    ranked = post(house, "/v1/rerank", "pairs", query=QUERY, documents=TEXTS).json()
    scored = post(house, "/score", "pairs", text_1=QUERY, text_2=TEXTS).json()
    by_place = {result["index"]: result["relevance_score"] for result in ranked["results"]}
    for pair in scored["data"]:
        assert by_place[pair["index"]] == pytest.approx(pair["score"], abs=1e-2)
    scores = [result["relevance_score"] for result in ranked["results"]]
    assert scores == sorted(scores, reverse=True)
    assert ranked["usage"] == scored["usage"]


def test_a_model_that_classifies(house):
    told = post(house, "/v1/classify", "classes", input=TEXTS).json()
    for each in told["data"]:
        assert sum(each["probs"]) == pytest.approx(1, abs=1e-2)
        assert each["label"] == ["bad", "fair", "good"][each["probs"].index(max(each["probs"]))]


def test_a_long_document_is_cut_where_documents_are_reranked_and_refused_where_pairs_are_scored(house):
    long = "one " * 5_000
    told = post(house, "/v1/rerank", query="one", documents=[long]).json()
    assert told["usage"]["prompt_tokens"] == 4_096
    assert is_error(post(house, "/v1/score", text_1="one", text_2=long), 400, "context_length_exceeded", param="text_2")
    cut = post(house, "/v1/score", text_1="one", text_2=long, truncate_prompt_tokens=9).json()
    assert cut["usage"]["prompt_tokens"] == 9


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("/v1/rerank", {"query": "a", "documents": []}, "documents", "invalid_value"),
        ("/v1/rerank", {"query": "", "documents": ["a"]}, "query", "invalid_value"),
        ("/v1/rerank", {"query": "a", "documents": ["a"] * 2_049}, "documents", "invalid_value"),
        ("/v1/rerank", {"query": "a", "documents": [{"image": "x"}]}, "documents[0].text", "invalid_value"),
        ("/v1/rerank", {"query": "a", "texts": ["a"]}, "texts", "unsupported_parameter"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_k": 1}, "top_k", "unsupported_parameter"),
        (
            "/v1/rerank",
            {"query": "a", "documents": ["a"], "rank_fields": ["b"]},
            "rank_fields",
            "unsupported_parameter",
        ),
        ("/v2/rerank", {"query": "a", "documents": ["a"], "priority": 3}, "priority", "unsupported_parameter"),
        (
            "/v1/rerank",
            {"query": "a", "documents": ["a"], "max_chunks_per_doc": 10},
            "max_chunks_per_doc",
            "unsupported_parameter",
        ),
        (
            "/v1/rerank",
            {"query": "a", "documents": ["a"], "return_embeddings": True},
            "return_embeddings",
            "unsupported_parameter",
        ),
        (
            "/v2/rerank",
            {"query": "a", "documents": ["a"], "max_tokens_per_doc": 0},
            "max_tokens_per_doc",
            "invalid_value",
        ),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "model": "echo"}, "model", "unsupported_parameter"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "model": "classes"}, "model", "unsupported_parameter"),
        ("/v1/score", {"text_1": "a"}, "text_2", "invalid_value"),
        ("/v1/score", {"text_1": "a", "queries": "a", "text_2": "a"}, "text_1", "invalid_value"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "text_1", "invalid_value"),
        ("/v1/score", {"queries": "a", "documents": ["a"] * 2_049}, "documents", "invalid_value"),
        (
            "/v1/score",
            {"text_1": "a", "text_2": "b", "truncate_prompt_tokens": 0},
            "truncate_prompt_tokens",
            "invalid_value",
        ),
        ("/v1/classify", {"input": []}, "input", "invalid_value"),
        ("/v1/classify", {"input": "a", "model": "all-minilm-l6-v2"}, "model", "unsupported_parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(house, path, body, param, code):
    assert is_error(post(house, path, **body), 400, code, param)


def test_what_is_computed_is_charged_and_a_deadline_ends_it(house):
    slow = json.dumps({"script": {"prefill": 30}})
    answer = house.client.post(
        "/v1/rerank",
        json={"model": "words", "query": "a", "documents": [slow]},
        headers={"x-request-timeout": "0.3"},
        timeout=60,
    )
    assert is_error(answer, 504, "deadline_exceeded")


def test_a_gateway_before_this_one_passes_on_vectors_and_scores(house):
    with Service(ENGINE="openai", **{f"{ENGINE}DEFAULT__SETTINGS__BASE_URL": f"{house.url}/v1"}) as before:
        for path, body in (
            (
                "/v1/rerank",
                {"model": "words", "query": "one two", "documents": ["a", "one b"], "max_tokens_per_doc": 1},
            ),
            ("/v1/score", {"model": "words", "text_1": ["one", "b"], "text_2": ["a", "b"], "use_activation": False}),
            ("/v1/classify", {"model": "classes", "input": TEXTS}),
            ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": TEXTS, "dimensions": 8, "input_type": "query"}),
        ):
            there, here = (each.client.post(path, json=body, timeout=60).json() for each in (house, before))
            for reply in (there, here):
                for once in ("id", "created"):
                    reply.pop(once, None)
            assert here == there
        refused = before.client.post("/v1/score", json={"model": "words", "text_1": "a", "text_2": "one " * 5_000})
        assert is_error(refused, 400, "context_length_exceeded", "text_2")
