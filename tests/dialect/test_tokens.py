"""Tokens and templates in the words of the vLLM and llama.cpp servers, over an engine whose tokens are words."""

import pytest

from tests.support.service import Service

QUESTION = [{"role": "user", "content": "one two "}, {"role": "user", "content": "three"}]
TOOL = {"type": "function", "function": {"name": "f"}}
BEGUN = [*QUESTION, {"role": "assistant", "content": "four"}]


@pytest.fixture(scope="module")
def gateway():
    with Service(ENGINE="scripted") as running:
        yield running


@pytest.fixture
def ask(gateway):
    def post(path, **body):
        return gateway.client.post(path, json=body)

    return post


def test_a_text_in_vllms_words(ask):
    answer = ask("/tokenize", prompt="one two one ").json()
    assert answer == {"count": 3, "max_model_len": 4096, "tokens": [0, 1, 0], "token_strs": None}
    answer = ask("/v1/tokenize", prompt="one two", return_token_strs=True, add_special_tokens=False).json()
    assert answer["token_strs"] == ["one ", "two"]
    assert ask("/detokenize", tokens=answer["tokens"]).json() == {"prompt": "one two", "content": "one two"}


def test_a_text_in_llama_cpps_words(ask):
    answer = ask("/tokenize", content="one two ", with_pieces=True, add_special=True, parse_special=True).json()
    assert [token["piece"] for token in answer["tokens"]] == ["one ", "two "]
    assert ask("/tokenize", content="one two ").json()["tokens"] == [token["id"] for token in answer["tokens"]]
    assert ask("/detokenize", tokens=[]).json()["content"] == ""


def test_a_conversation(ask):
    assert ask("/tokenize", messages=QUESTION).json()["count"] == 3
    assert ask("/apply-template", messages=QUESTION).json() == {"prompt": "one two \nthree"}
    assert ask("/v1/apply-template", messages=QUESTION, model="scripted").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"messages": QUESTION, "add_special_tokens": False, "add_special": False},
        {"messages": QUESTION, "tools": [], "add_generation_prompt": True, "continue_final_message": False},
        {"prompt": "one two three", "add_special": False, "tools": [], "add_generation_prompt": False},
        {"content": "one two three", "add_special_tokens": False},
    ],
)
def test_a_switch_that_changes_nothing_is_taken(ask, body):
    assert ask("/tokenize", **body).json()["count"] == 3


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/tokenize", {}, "invalid_value", "prompt"),
        ("/tokenize", {"prompt": "a", "content": "a"}, "invalid_value", "content"),
        ("/tokenize", {"content": "a", "add_special_tokens": True}, "invalid_value", "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "add_special": True}, "invalid_value", "add_special"),
        ("/tokenize", {"prompt": "a", "parse_special": False}, "unsupported_parameter", "parse_special"),
        ("/tokenize", {"prompt": "a", "tools": [TOOL]}, "invalid_value", "messages"),
        ("/tokenize", {"messages": QUESTION, "add_special_tokens": True}, "invalid_value", "add_special_tokens"),
        (
            "/tokenize",
            {"messages": QUESTION, "add_generation_prompt": False},
            "unsupported_parameter",
            "add_generation_prompt",
        ),
        ("/tokenize", {"messages": []}, "invalid_value", "messages"),
        ("/tokenize", {"prompt": "a", "model": "none"}, "model_not_found", "model"),
        (
            "/tokenize",
            {"messages": BEGUN, "continue_final_message": True},
            "unsupported_parameter",
            "continue_final_message",
        ),
        (
            "/tokenize",
            {"messages": QUESTION, "chat_template_kwargs": {"a": 1}},
            "unsupported_parameter",
            "chat_template_kwargs",
        ),
        (
            "/apply-template",
            {"messages": QUESTION, "continue_final_message": True},
            "invalid_value",
            "continue_final_message",
        ),
        ("/apply-template", {}, "invalid_value", "messages"),
        ("/detokenize", {"tokens": [10_000]}, "invalid_value", "tokens"),
        ("/detokenize", {"tokens": "a"}, "invalid_value", "tokens"),
        ("/detokenize", {}, "invalid_value", "tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(ask, path, body, code, param):
    answer = ask(path, **body)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_an_unknown_field_is_named(ask):
    assert ask("/tokenize", prompt="a", unheard_of=1).headers["x-ignored-params"] == "unheard_of"


def test_an_engine_that_shows_no_tokens_says_so(service):
    answer = service.client.post("/tokenize", json={"prompt": "a"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert "tokenize" in answer.json()["error"]["message"]


def test_an_engine_without_a_tokenizer_says_so_by_the_models_name(gateway):
    for path in ("/tokenizer_info", "/v1/tokenizer_info?model=scripted"):
        answer = gateway.client.get(path)
        assert answer.status_code == 400
        told = answer.json()["error"]
        assert (told["code"], told["param"]) == ("unsupported_parameter", "model")
        assert "'scripted' does not support tokenizer_info" in told["message"]
    assert gateway.client.get("/tokenizer_info?model=none").status_code == 404
