"""Large and hostile texts, against the built-in model over HTTP, beside a neighbour whose answer has to stay right."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.service import Service

NEIGHBOUR = {"prompt": "The capital of France is", "max_new_tokens": 24, "temperature": 0}


@pytest.fixture(scope="module")
def reading():
    with Service(ENGINE="hf", LLM_GATEWAY__CACHE__ENABLED="false") as service:
        yield service


def lone_byte(service):
    """The token of a byte that begins a character of four, and is none alone."""
    pieces = service.client.post("/tokenize", json={"content": "🦜", "with_pieces": True}).json()["tokens"]
    token = pieces[0]
    assert token["piece"][0] == 0xF0
    return token["id"]


def test_tokens_that_never_become_a_character_hurt_nobody(reading):
    alone = reading.generate(**NEIGHBOUR).json()["generated_text"]
    tokens = [lone_byte(reading)] * 20_000
    with ThreadPoolExecutor(5) as threads:
        attacks = [threads.submit(reading.client.post, "/detokenize", json={"tokens": tokens}) for _ in range(4)]
        beside = threads.submit(reading.generate, **NEIGHBOUR).result()
        replies = [attack.result() for attack in attacks]
    assert beside.status_code == 200
    assert beside.json()["generated_text"] == alone
    assert [reply.status_code for reply in replies] == [200] * 4
    assert {reply.json()["content"] for reply in replies} == {"\N{REPLACEMENT CHARACTER}" * len(tokens)}
    assert reading.metric("llm_gateway_engine_restarts_total") == 0


@pytest.mark.parametrize("truncate", [1, None])
def test_megabytes_of_spaces_are_refused_unread_with_the_limit_that_they_break(reading, truncate):
    body = {"prompt": " " * 3_900_000, "max_tokens": 1}
    reply = reading.client.post(
        "/v1/completions", json=body | ({"truncate_prompt_tokens": truncate} if truncate else {})
    )
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "3900000 bytes" in error["message"]
    assert "the longest token" in error["message"]


def test_more_tokens_than_are_shown_at_once_are_refused(reading):
    window = reading.client.post("/tokenize", json={"content": "a"}).json()["max_model_len"]
    reply = reading.client.post("/detokenize", json={"tokens": [1] * (16 * window + 1)})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "tokens")
