"""The official OpenAI SDK against the real service: whole, streamed, its errors, its retries, and leaving early."""

import asyncio

import httpx
import openai
import pytest

from gateway.auth import KeyFile
from gateway.limits import Quota
from tests.support.observe import eventually, play
from tests.support.service import Service

QUESTION = [{"role": "user", "content": "one two three"}]
TICKS = {"texts": ["tick "], "delay": 0.02}


@pytest.fixture(scope="module")
def house():
    """An echo, and an engine that follows scripts."""
    with Service(
        LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted",
        LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__MODEL="stage/scripted",
    ) as running:
        yield running


def connect(service, path="/v1", **fields):
    return openai.OpenAI(base_url=service.url + path, **{"api_key": "none", "max_retries": 0} | fields)


@pytest.fixture(scope="module")
def client(house):
    with connect(house) as made:
        yield made


def said(client, script, **fields):
    messages = [{"role": "user", "content": play(**script)}]
    return client.chat.completions.create(model="scripted", messages=messages, **fields)


def asked(house):
    """Count the generations that the log tells of."""
    return sum(line.get("path", "").endswith("/completions") for line in house.requests())


def test_a_whole_chat(client):
    answer = client.chat.completions.create(model="echo", messages=QUESTION, temperature=0, user="u")
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)
    assert answer.id == f"chatcmpl-{answer._request_id}"
    assert answer.system_fingerprint.startswith("fp_")


def test_a_streamed_chat_is_the_whole_one_in_pieces(client):
    usage = {"include_usage": True}
    first, *chunks, last, total = client.chat.completions.create(
        model="echo", messages=QUESTION, stream=True, stream_options=usage
    )
    assert first.choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["one ", "two ", "three"]
    assert last.choices[0].finish_reason == "stop"
    assert (total.choices, total.usage.total_tokens) == ([], 6)
    assert len({chunk.id for chunk in (first, *chunks, last, total)}) == 1


def test_the_sdks_own_accumulator_understands_the_stream(client):
    with client.chat.completions.stream(model="echo", messages=QUESTION) as stream:
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.content == "one two three"
    assert {"chunk", "content.delta", "content.done"} <= kinds


def test_several_answers_whole_and_streamed(client):
    answer = client.chat.completions.create(model="echo", messages=QUESTION, n=3, seed=1)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [
        (index, "one two three") for index in range(3)
    ]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 9)
    texts = dict.fromkeys(range(3), "")
    for chunk in client.chat.completions.create(model="echo", messages=QUESTION, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == dict.fromkeys(range(3), "one two three")


def test_completions_of_a_text_and_of_many(client):
    answer = client.completions.create(model="echo", prompt=["one two", "three"], n=2, echo=True, max_tokens=1)
    assert [choice.text for choice in answer.choices] == ["one twoone ", "one twoone ", "threethree", "threethree"]
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length", "length", "length"]
    chunks = list(client.completions.create(model="echo", prompt="one two", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "one two"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_logprobs_of_both_routes(client):
    answer = said(client, {"texts": ["a", "b"], "logprob": "-inf"}, logprobs=True, top_logprobs=1)
    tokens = answer.choices[0].logprobs.content
    assert [(token.token, token.logprob, token.bytes) for token in tokens] == [
        ("a", -9999.0, [97]),
        ("b", -9999.0, [98]),
    ]
    assert [[other.token for other in token.top_logprobs] for token in tokens] == [["a"], ["b"]]
    text = client.completions.create(model="scripted", prompt=play(texts=["a", "b"], logprob=-0.5), logprobs=1)
    assert text.choices[0].logprobs.token_logprobs == [-0.5, -0.5]
    best = client.completions.create(model="scripted", prompt=play(texts=["a"]), n=1, best_of=3)
    assert (len(best.choices), best.usage.completion_tokens, best.choices[0].logprobs) == (1, 3, None)


def test_the_models_and_what_they_honour(client):
    assert {model.id for model in client.models.list()} == {"echo", "scripted"}
    assert client.models.retrieve("scripted").id == "scripted"
    assert client.models.retrieve("stage/scripted").id == "scripted"
    for name in ("scripted", "stage/scripted"):
        shown = client.get(f"/models/{name}/capabilities", cast_to=httpx.Response).json()
        assert shown["id"] == "scripted"
        assert "logprobs" in shown["routes"]["completions"]["honoured"]
        assert "logit_bias" in shown["routes"]["completions"]["refused"]
    with pytest.raises(openai.NotFoundError, match="'echo', 'scripted'"):
        client.models.retrieve("nobody/nothing")


def test_all_of_it_without_its_version_too(house):
    with connect(house, "") as client:
        assert client.chat.completions.create(model="echo", messages=QUESTION).choices
        assert client.completions.create(model="echo", prompt="a").choices[0].text == "a"
        assert len(list(client.models.list())) == 2
        assert [client.models.retrieve(name).id for name in ("echo", "stage/scripted")] == ["echo", "scripted"]
        assert set(client.get("/version", cast_to=httpx.Response).json()) == {"version"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"logit_bias": {"1": 1}}, "logit_bias", "unsupported_parameter"),
        ({"n": 9}, "n", "invalid_value"),
        ({"max_completion_tokens": 10_000}, "max_completion_tokens", "context_length_exceeded"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "messages[0].role", "invalid_value"),
        ({"extra_body": {"guided_regex": "a"}}, "guided_regex", "unsupported_parameter"),
        ({"extra_body": {"top_k": -2}}, "top_k", "invalid_value"),
    ],
)
def test_a_bad_request_names_its_field(client, fields, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "echo", "messages": QUESTION} | fields)
    assert (refused.value.param, refused.value.code, refused.value.type) == (param, code, "invalid_request_error")


def test_what_nobody_knows_is_named_in_a_header(client):
    extra = {"unheard_of": 1, "guided_decoding_backend": "x"}
    answer = client.chat.completions.with_raw_response.create(model="echo", messages=QUESTION, extra_body=extra)
    assert answer.headers["x-ignored-params"] == "unheard_of,guided_decoding_backend"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-none", messages=QUESTION)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_keys_and_limits_are_errors_of_their_own(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    _, key = file.create("poor", quota=Quota(requests_per_minute=1))
    with Service(LLM_GATEWAY__AUTH__FILE=str(tmp_path / "keys.db")) as service:
        with connect(service) as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with connect(service, api_key=key) as client:
            answer = client.chat.completions.with_raw_response.create(model="echo", messages=QUESTION)
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model="echo", messages=QUESTION)
            assert 0 < int(refused.value.response.headers["retry-after"]) <= 60


def test_an_error_of_the_engine_is_the_servers_and_is_not_tried_again(house):
    before = asked(house)
    with connect(house, max_retries=2) as client, pytest.raises(openai.InternalServerError) as failed:
        said(client, {"fault": "raise", "after": -1})
    assert (failed.value.status_code, failed.value.code) == (500, "engine_error")
    assert eventually(lambda: asked(house) - before) == 1


def test_an_overload_is_tried_again_as_often_as_the_client_wants(house):
    before = asked(house)
    with connect(house, max_retries=1) as client, pytest.raises(openai.InternalServerError) as failed:
        said(client, {"fault": "raise", "after": -1, "code": "overloaded"})
    assert failed.value.status_code == 503
    assert eventually(lambda: asked(house) - before == 2)


def test_a_stream_that_fails_says_so_after_what_it_said(client):
    script = {"texts": ["a", "b", "c"], "fault": "raise", "after": 2}
    read = []

    def follow(stream):
        read.extend(chunk.choices[0].delta.content for chunk in stream)

    for fields in ({}, {"n": 2}):
        read.clear()
        with pytest.raises(openai.APIError, match="the script says so"):
            follow(said(client, script, stream=True, **fields))
        assert sorted(text for text in read if text) == sorted(["a", "b"] * fields.get("n", 1))


@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_in_the_middle_frees_its_places(house, client, n):
    stream = said(client, TICKS, stream=True, n=n, max_tokens=4_000, extra_body={"ignore_eos": True})
    chunks = iter(stream)
    assert next(chunks).choices[0].delta.role == "assistant"
    eventually(lambda: running(house) == n)
    stream.close()
    eventually(lambda: running(house) == 0)


def running(house):
    """Count the requests in the house."""
    return len(house.client.get("/v1/requests").json()["data"])


async def test_the_asynchronous_client_leaves_a_whole_answer_as_well(house):
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as client:
        prompt = play(texts=["tick "], delay=0.02)
        asking = client.completions.create(
            model="scripted", prompt=[prompt] * 2, max_tokens=4_000, extra_body={"ignore_eos": True}
        )
        work = asyncio.create_task(asking)
        await asyncio.to_thread(eventually, lambda: running(house) == 2)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: running(house) == 0)
