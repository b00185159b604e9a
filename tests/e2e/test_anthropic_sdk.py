"""The official Anthropic SDK against the real service: whole, streamed, its errors, its retries, and leaving early."""

import time

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from gateway.auth import KeyFile
from gateway.limits import Quota
from tests.support.observe import eventually, play
from tests.support.service import Service

QUESTION = [{"role": "user", "content": "one two three"}]
TICKS = {"texts": ["tick "] * 400, "delay": 0.05}
EVENT = TypeAdapter(RawMessageStreamEvent)
LEAST = {"model": "echo", "max_tokens": 64, "messages": QUESTION}


@pytest.fixture(scope="module")
def house():
    """An echo, and an engine that follows scripts."""
    with Service(
        LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted",
        LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__MODEL="stage/scripted",
        LLM_GATEWAY__SERVER__PING_SECONDS="0.1",
    ) as running:
        yield running


def connect(service, **fields):
    return anthropic.Anthropic(base_url=service.url, **{"api_key": "none", "max_retries": 0} | fields)


@pytest.fixture(scope="module")
def client(house):
    with connect(house) as made:
        yield made


def told(script):
    """Write what makes the scripted model play."""
    return {"model": "scripted", "max_tokens": 64, "messages": [{"role": "user", "content": play(**script)}]}


def asked(house):
    """Count the generations that the log tells of."""
    return sum(line.get("path", "") == "/v1/messages" for line in house.requests())


def running(house):
    """Count the requests in the house."""
    return len(house.client.get("/v1/requests").json()["data"])


def test_a_whole_message(client):
    answer = client.messages.create(**LEAST, extra_body={"temperature": 0}, metadata={"user_id": "u"})
    assert [(block.type, block.text) for block in answer.content] == [("text", "one two three")]
    assert (answer.role, answer.model, answer.stop_reason, answer.stop_sequence) == (
        "assistant", "echo", "end_turn", None,
    )  # fmt: skip
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 3)
    assert answer.id == f"msg_{answer._request_id}"


def test_the_sdks_own_helper_understands_the_stream(client):
    with client.messages.stream(**LEAST) as stream:
        assert list(stream.text_stream) == ["one ", "two ", "three"]
        last = stream.get_final_message()
    assert last.content[0].text == "one two three"
    assert (last.stop_reason, last.usage.input_tokens, last.usage.output_tokens) == ("end_turn", 3, 3)


def test_a_raw_stream_has_all_events_in_order(client):
    kinds = [event.type for event in client.messages.create(**LEAST, stream=True)]
    deltas = ["content_block_delta"] * 3
    assert kinds == [
        "message_start", "content_block_start", *deltas, "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


def test_every_event_and_answer_has_the_documented_keys(house):
    whole = house.client.post("/v1/messages", json=LEAST)
    Message.model_validate(whole.json(), strict=True)
    keys = {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}
    assert set(whole.json()) == keys
    assert whole.headers["request-id"] == whole.headers["x-request-id"]
    streamed = house.client.post("/v1/messages", json=LEAST | {"stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *frames, end = streamed.text.split("\n\n")
    assert end == ""
    assert "[DONE]" not in streamed.text
    for frame in frames:
        name, _, data = frame.removeprefix("event: ").partition("\ndata: ")
        if name != "ping":
            assert EVENT.validate_json(data, strict=True).type == name


def test_a_stop_sequence_ends_the_message_and_is_named(client):
    answer = client.messages.create(**LEAST, stop_sequences=["two"])
    assert (answer.content[0].text, answer.stop_reason, answer.stop_sequence) == ("one ", "stop_sequence", "two")
    with client.messages.stream(**LEAST, stop_sequences=["two"]) as stream:
        last = stream.get_final_message()
    assert (last.content[0].text, last.stop_reason, last.stop_sequence) == ("one ", "stop_sequence", "two")


def test_too_few_tokens_end_the_message(client):
    answer = client.messages.create(**LEAST | {"max_tokens": 1})
    assert (answer.content[0].text, answer.stop_reason) == ("one ", "max_tokens")


def test_tokens_are_counted(client):
    assert client.messages.count_tokens(model="echo", messages=QUESTION).input_tokens == 3


def test_an_answer_that_is_begun_goes_on_or_the_model_says_that_it_cannot(client):
    begun = [*QUESTION, {"role": "assistant", "content": "It is"}]
    with pytest.raises(anthropic.BadRequestError, match="continue_final") as refused:
        client.messages.create(**LEAST | {"messages": begun})
    assert refused.value.api_message.startswith("messages: ")
    begun[-1]["content"] += " "
    with pytest.raises(anthropic.BadRequestError, match="cannot end with trailing whitespace"):
        client.messages.create(**LEAST | {"messages": begun})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"temperature": 1.5}, "temperature: "),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "messages[0].role: "),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type: "),
        ({"thinking": {"type": "enabled", "budget_tokens": 64}}, "thinking.budget_tokens: 64 tokens "),
        ({"top_k": 3, "container": "c"}, "container is not supported here"),
        ({"max_tokens": 100_000}, "input length and `max_tokens` exceed context limit: "),
        ({"messages": [{"role": "user", "content": "a " * 9_000}]}, "prompt is too long: "),
    ],
)
def test_a_bad_request_names_its_field(client, fields, says):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**LEAST, extra_body=fields)
    assert refused.value.type == "invalid_request_error"
    assert says in refused.value.api_message
    assert refused.value.request_id == refused.value.body["request_id"]


def test_what_nobody_knows_is_named_in_a_header(client):
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "unheard_of": 1}]
    answer = client.messages.with_raw_response.create(
        **LEAST | {"messages": [{"role": "user", "content": blocks}]},
        extra_body={"mirostat_tau": 1},
        extra_headers={"anthropic-beta": "x"},
    )
    assert set(answer.headers["x-ignored-params"].split(",")) == {"messages[0].content[0].unheard_of", "mirostat_tau"}


def test_a_parameter_of_another_api_is_refused_by_name(client):
    with pytest.raises(anthropic.BadRequestError, match="seed"):
        client.messages.create(**LEAST, extra_body={"seed": 1})


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(**LEAST | {"model": "claude-none"})
    assert refused.value.type == "not_found_error"


@pytest.mark.parametrize(
    ("asking", "status", "kind"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_request_error"),
        ({"content": b"a=1", "headers": {"content-type": "text/plain"}}, 415, "invalid_request_error"),
        ({"json": LEAST, "headers": {"host": "elsewhere.example"}}, 400, "invalid_request_error"),
        ({"json": LEAST, "headers": {"origin": "https://elsewhere.example"}}, 403, "permission_error"),
        ({"content": b" " * 20_000_000, "headers": {"content-type": "application/json"}}, 413, "request_too_large"),
    ],
)
def test_every_layer_says_no_in_anthropics_words(house, asking, status, kind):
    answer = house.client.post("/v1/messages", **asking)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert answer.json()["request_id"] == answer.headers["request-id"]
    assert set(answer.json()) == {"type", "error", "request_id"}
    if kind != "request_too_large":  # an error that the API has and the SDK's types have not
        ErrorResponse.model_validate(answer.json(), strict=True)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/messages/none")])
def test_so_does_what_is_no_route(house, method, path):
    answer = house.client.request(method, path)
    assert answer.status_code in (404, 405)
    assert answer.json()["type"] == "error"


def test_keys_and_limits_are_errors_of_their_own(tmp_path):
    file = KeyFile(tmp_path / "keys.db")
    _, key = file.create("poor", quota=Quota(requests_per_minute=1))
    with Service(LLM_GATEWAY__AUTH__FILE=str(tmp_path / "keys.db")) as service:
        for wrong in ({}, {"api_key": None, "auth_token": "none"}):
            with connect(service, **wrong) as client, pytest.raises(anthropic.AuthenticationError) as refused:
                client.messages.create(**LEAST)
            assert refused.value.type == "authentication_error"
        with connect(service, api_key=key) as client:
            answer = client.messages.with_raw_response.create(**LEAST)
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        with connect(service, api_key=None, auth_token=key) as client, pytest.raises(anthropic.RateLimitError) as full:
            client.messages.create(**LEAST)
        assert full.value.type == "rate_limit_error"
        assert 0 < int(full.value.response.headers["retry-after"]) <= 60


def test_an_error_of_the_engine_is_the_servers_and_is_not_tried_again(house):
    before = asked(house)
    with connect(house, max_retries=2) as client, pytest.raises(anthropic.InternalServerError) as failed:
        client.messages.create(**told({"fault": "raise", "after": -1}))
    assert (failed.value.status_code, failed.value.type) == (500, "api_error")
    assert eventually(lambda: asked(house) - before) == 1


def test_an_overload_is_tried_again_as_often_as_the_client_wants(house):
    before, clock = asked(house), time.monotonic()
    with connect(house, max_retries=1) as client, pytest.raises(anthropic.OverloadedError) as failed:
        client.messages.create(**told({"fault": "raise", "after": -1, "code": "overloaded"}))
    assert (failed.value.status_code, failed.value.type) == (529, "overloaded_error")
    # By itself the client waits half a second at most.
    assert time.monotonic() - clock >= 1 <= int(failed.value.response.headers["retry-after"])
    assert eventually(lambda: asked(house) - before == 2)


def test_a_stream_that_fails_says_so_after_what_it_said(client):
    read = []

    def follow():
        for event in client.messages.create(**told({"texts": ["a", "b"], "fault": "raise", "after": 2}), stream=True):
            read.extend([event.delta.text] if event.type == "content_block_delta" else [])

    with pytest.raises(anthropic.APIStatusError, match="the script says so") as failed:
        follow()
    assert failed.value.type == "api_error"
    assert read == ["a", "b"]


def test_a_silent_stream_pings(house):
    script = {"texts": ["a"], "delay": 0.5}
    body = told(script) | {"max_tokens": 2, "stream": True}
    frames = house.client.post("/v1/messages", json=body).text.split("\n\n")
    assert frames.count('event: ping\ndata: {"type":"ping"}') >= 2
    assert not any(frame.startswith(":") for frame in frames)


def test_the_place_in_the_line_is_a_comment_that_the_sdk_reads_over(client):
    with client.messages.stream(**LEAST, extra_headers={"prefer": "queue-updates"}) as stream:
        assert stream.get_final_text() == "one two three"


def test_a_client_that_leaves_in_the_middle_frees_its_place(house, client):
    with client.messages.stream(**told(TICKS) | {"max_tokens": 1_000}) as stream:
        assert next(iter(stream.text_stream)) == "tick "
        eventually(lambda: running(house) == 1)
    eventually(lambda: running(house) == 0)


@pytest.fixture(scope="module")
def modelled(builtin):
    """A client of the service with its own small model."""
    with connect(builtin) as made:
        yield made


def greedy(**fields):
    question = [{"role": "user", "content": "What is the capital of France?"}]
    least = {"model": "smollm2-135m-instruct", "max_tokens": 24, "messages": question}
    return least | {"extra_body": {"temperature": 0}} | fields


def test_the_real_model_answers_whole_as_it_streams(modelled):
    whole = modelled.messages.create(**greedy())
    with modelled.messages.stream(**greedy()) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens
    assert "Paris" in whole.content[0].text


def test_the_real_model_goes_on_with_a_begun_answer_and_counts_it(modelled):
    begun = [*greedy()["messages"], {"role": "assistant", "content": "The capital of France is"}]
    answer = modelled.messages.create(**greedy(messages=begun))
    assert answer.content[0].text.startswith(" Paris")
    fields = {"model": "smollm2-135m-instruct", "messages": begun}
    counted = modelled.messages.count_tokens(**fields).input_tokens
    assert counted == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
