"""The official OpenAI SDK's files and batches against the real service: every route, every end."""

import io
import json
import time

import openai
import pytest
from openai.types import Batch, FileObject

from tests.support.batches import Lines, ended, lines_of
from tests.support.observe import eventually, play
from tests.support.service import Service, total

PATIENCE = 60.0
SLOW = play(texts=["tick "] * 400, delay=0.05)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """An echo and an engine that follows scripts, with a store of their own; lines begin at once."""
    with Service(
        LLM_GATEWAY__STORE__FILE=str(tmp_path_factory.mktemp("house") / "store.db"),
        LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted",
        LLM_GATEWAY__BATCHES__QUIET_SECONDS="0",
        LOG_LEVEL="DEBUG",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(house):
    with openai.OpenAI(base_url=house.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


def upload(client, lines, **fields):
    content = lines if isinstance(lines, bytes) else lines.content
    return client.files.create(file=("lines.jsonl", io.BytesIO(content)), purpose="batch", **fields)


def batch(client, lines, **fields):
    asked = {"endpoint": getattr(lines, "url", "/v1/chat/completions"), "completion_window": "24h"} | fields
    return client.batches.create(input_file_id=upload(client, lines).id, **asked)


def done(client, lines, **fields):
    return ended(client, batch(client, lines, **fields), PATIENCE)


def chats(*texts, **fields):
    return Lines("/v1/chat/completions").add_all(
        {"model": "echo", "messages": [{"role": "user", "content": text}]} | fields for text in texts
    )


def test_a_file_is_uploaded_listed_read_and_deleted(client):
    content = chats("one", "two").content
    made = upload(client, content, expires_after={"anchor": "created_at", "seconds": 3_600})
    assert isinstance(made, FileObject)
    assert (made.object, made.purpose, made.bytes, made.filename) == ("file", "batch", len(content), "lines.jsonl")
    assert (made.status, made.expires_at - made.created_at) == ("processed", 3_600)
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    assert made.id in [each.id for each in client.files.list(purpose="batch")]
    other = upload(client, content)
    newest = client.files.list(limit=1)
    assert ([each.id for each in newest.data], newest.has_more) == ([other.id], True)
    assert [each.id for each in client.files.list(limit=1, after=other.id).data] == [made.id]
    assert [each.id for each in client.files.list(limit=1, order="asc")][-2:] == [made.id, other.id]
    deleted = client.files.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "file")
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as missing:
            ask(made.id)
        assert missing.value.param == "file_id"


def test_a_batch_of_chats_is_answered_in_the_order_of_its_lines(client, house):
    lines = chats(*(f"text {number}" for number in range(40)))
    before = house.scrape()
    made = batch(client, lines, metadata={"run": "7"})
    assert isinstance(made, Batch)
    assert (made.object, made.status, made.metadata) == ("batch", "validating", {"run": "7"})
    over = ended(client, made, PATIENCE)
    assert (over.status, over.request_counts.completed, over.request_counts.failed) == ("completed", 40, 0)
    assert (over.errors, over.error_file_id, over.model) == (None, None, "echo")
    assert made.created_at <= over.in_progress_at <= over.finalizing_at <= over.completed_at
    assert over.expires_at == over.created_at + 86_400
    found = lines_of(client, over.output_file_id)
    assert [each["custom_id"] for each in found] == lines.ids
    for number, each in enumerate(found):
        assert set(each) == {"id", "custom_id", "response", "error"}
        assert each["error"] is None
        response = each["response"]
        assert (response["status_code"], len(response["request_id"])) == (200, 26)
        answer = openai.types.chat.ChatCompletion.model_validate(response["body"], strict=False)
        assert answer.choices[0].message.content == f"text {number}"
    usage = sum(each["response"]["body"]["usage"]["total_tokens"] for each in found)
    assert over.usage.total_tokens == over.usage.input_tokens + over.usage.output_tokens == usage
    written = client.files.retrieve(over.output_file_id)
    assert (written.purpose, written.filename) == ("batch_output", f"{made.id}_output.jsonl")
    after = house.scrape()
    counted = [total(each, "llm_gateway_batch_lines_total", result="completed") for each in (before, after)]
    assert counted[1] - counted[0] == 40


OTHERS = {
    "/v1/completions": ({"model": "echo", "prompt": "one two"}, openai.types.Completion),
    "/v1/responses": ({"model": "echo", "input": "one two", "store": False}, openai.types.responses.Response),
}


@pytest.mark.parametrize("url", OTHERS)
def test_a_batch_of_another_route_has_that_routes_answers(client, url):
    body, kind = OTHERS[url]
    over = done(client, Lines(url).add_all([body, body]))
    assert over.status == "completed", over
    first, second = [each["response"]["body"] for each in lines_of(client, over.output_file_id)]
    for answer in (first, second):
        kind.model_validate(answer)
    assert first["id"] != second["id"]
    assert over.usage.input_tokens == 4


def test_a_line_that_its_route_refuses_is_an_error_of_its_own(client):
    lines = chats("one").add({"model": "none", "messages": [{"role": "user", "content": "a"}]})
    lines.add({"model": "scripted", "messages": [{"role": "user", "content": play(fault="raise", message="it broke")}]})
    over = done(client, lines)
    assert (over.status, over.request_counts.completed, over.request_counts.failed) == ("completed", 1, 2)
    unknown, broken = lines_of(client, over.error_file_id)
    assert (unknown["custom_id"], broken["custom_id"]) == tuple(lines.ids[1:])
    assert (unknown["response"]["status_code"], unknown["error"]) == (404, None)
    assert unknown["response"]["body"]["error"]["code"] == "model_not_found"
    assert (broken["response"]["status_code"], broken["response"]["body"]["error"]["message"]) == (500, "it broke")
    assert len(lines_of(client, over.output_file_id)) == 1


def test_wrong_lines_fail_the_batch_before_any_is_answered(client):
    lines = chats("one", "two").add({"messages": [{"role": "user", "content": "a"}], "stream": True})
    lines.add({"messages": [{"role": "user", "content": "a"}], "temperature": 3})
    lines.add({"messages": []}, custom_id=lines.ids[0])
    raw = lines.content + b"no json\n"
    over = done(client, raw)
    assert (over.status, over.failed_at is not None, over.output_file_id) == ("failed", True, None)
    assert over.errors.object == "list"
    told = [(fault.line, fault.code, fault.param) for fault in over.errors.data]
    assert told == [
        (3, "unsupported_parameter", "body.stream"),
        (4, "invalid_value", "temperature"),
        (5, "duplicate_custom_id", "custom_id"),
        (6, "invalid_json", None),
    ]
    assert over.request_counts.total == 0


def test_a_response_in_the_background_is_refused_by_name(client):
    over = done(client, Lines("/v1/responses").add({"model": "echo", "input": "a", "background": True}))
    assert [(fault.code, fault.param) for fault in over.errors.data] == [("unsupported_parameter", "body.background")]


def test_a_batch_that_is_cancelled_has_what_was_answered(client, house):
    lines = chats("one", "two").add_all(
        {"model": "scripted", "messages": [{"role": "user", "content": SLOW}]} for _ in "ab"
    )
    made = batch(client, lines)
    eventually(lambda: client.batches.retrieve(made.id).request_counts.completed == 2, PATIENCE)
    told = client.batches.cancel(made.id)
    assert (told.status, told.cancelling_at is not None) == ("cancelling", True)
    over = ended(client, told, PATIENCE)
    assert (over.status, over.cancelled_at is not None) == ("cancelled", True)
    assert (over.request_counts.total, over.request_counts.completed, over.request_counts.failed) == (4, 2, 0)
    assert [each["custom_id"] for each in lines_of(client, over.output_file_id)] == lines.ids[:2]
    assert client.batches.cancel(made.id) == over
    assert house.client.get("/v1/requests").json()["data"] == []
    over = done(client, chats("one"))
    with pytest.raises(openai.BadRequestError, match="is completed: it cannot be cancelled"):
        client.batches.cancel(over.id)


def test_a_batch_that_expires_has_what_was_answered_and_names_the_rest(client):
    lines = chats("one").add({"model": "scripted", "messages": [{"role": "user", "content": SLOW}]})
    over = done(client, lines, completion_window="3s")
    assert (over.status, over.expires_at - over.created_at) == ("expired", 3)
    assert (over.request_counts.completed, over.request_counts.failed) == (1, 1)
    (line,) = lines_of(client, over.error_file_id)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == (lines.ids[1], None, "batch_expired")
    assert [each["custom_id"] for each in lines_of(client, over.output_file_id)] == lines.ids[:1]


def test_batches_are_listed_the_newest_one_first(client):
    made = [batch(client, chats("one")).id for _ in range(3)]
    assert [each.id for each in client.batches.list(limit=1)][:3] == made[::-1]
    page = client.batches.list(limit=2, after=made[1])
    assert page.data[0].id == made[0]


def test_a_file_that_a_batch_reads_is_not_deleted(client):
    lines = chats("one").add({"model": "scripted", "messages": [{"role": "user", "content": SLOW}]})
    made = batch(client, lines)
    with pytest.raises(openai.ConflictError, match=f"{made.id} reads this file") as refused:
        client.files.delete(made.input_file_id)
    assert (refused.value.code, refused.value.param) == ("file_in_use", "file_id")
    client.batches.cancel(made.id)
    ended(client, made, PATIENCE)
    assert client.files.delete(made.input_file_id).deleted


def test_how_long_the_files_of_a_batch_are_kept_can_be_said(client):
    over = done(client, chats("one"), output_expires_after={"anchor": "created_at", "seconds": 7_200})
    written = client.files.retrieve(over.output_file_id)
    assert written.expires_at - written.created_at == 7_200


REFUSED = {
    "no such file": ({"input_file_id": "file-none"}, openai.NotFoundError, "input_file_id"),
    "no such route": ({"endpoint": "/v1/images/generations"}, openai.BadRequestError, "endpoint"),
    "no window": ({"completion_window": "soon"}, openai.BadRequestError, "completion_window"),
    "a long window": ({"completion_window": "31d"}, openai.BadRequestError, "completion_window"),
    "an odd expiry": (
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        openai.BadRequestError,
        "output_expires_after.seconds",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name(client, name):
    fields, kind, param = REFUSED[name]
    given = upload(client, chats("one")).id
    usual = {"input_file_id": given, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    with pytest.raises(kind) as refused:
        client.batches.create(**usual | fields)
    assert refused.value.param == param


def test_what_a_batch_wrote_is_no_input(client):
    output = done(client, chats("one")).output_file_id
    with pytest.raises(openai.BadRequestError, match="batch_output, not batch"):
        client.batches.create(input_file_id=output, endpoint="/v1/chat/completions", completion_window="24h")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after[seconds]"),
        ({"file": ("a.jsonl", b"")}, "file"),
    ],
)
def test_an_upload_is_refused_by_the_name_of_its_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(**{"file": ("a.jsonl", b"{}"), "purpose": "batch"} | fields)
    assert refused.value.param == param


def test_a_parameter_of_a_url_is_honoured_or_refused_by_its_name(house):
    for path in ("/v1/files?color=red", "/v1/batches?order=asc", "/v1/files?limit=0", "/v1/batches?limit=101"):
        answer = house.client.get(path)
        param = path.partition("?")[2].partition("=")[0]
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    for path in ("/v1/files?after=none", "/v1/batches?after=none"):
        assert house.client.get(path).status_code == 404


async def test_the_asynchronous_client_too(house):
    async with openai.AsyncOpenAI(base_url=house.url + "/v1", api_key="none") as client:
        given = await client.files.create(file=("a.jsonl", chats("one").content), purpose="batch")
        made = await client.batches.create(
            input_file_id=given.id, endpoint="/v1/chat/completions", completion_window="1h"
        )
        assert made.input_file_id == given.id
        assert given.id in [each.id async for each in client.files.list()]


def test_no_text_of_a_batch_is_in_the_log(client, house):
    done(client, chats("zebra"))
    assert "zebra" not in house.output
    assert json.dumps("batch_over") in house.output


def test_requests_come_before_lines(client, house):
    """With one place for lines and requests: a line that is long is given up for a request, and asked again."""
    line = {"model": "scripted", "messages": [{"role": "user", "content": play(texts=["tick "] * 20, delay=0.05)}]}
    made = batch(client, Lines("/v1/chat/completions").add(line))
    given_up = house.metric("llm_gateway_batch_lines_total", result="gave_way")
    eventually(
        lambda: [each["model"] for each in house.client.get("/v1/requests").json()["data"]] == ["scripted"], PATIENCE
    )
    began = time.monotonic()
    assert house.generate(model="scripted", prompt=play(texts=["a"])).json()["generated_text"].endswith("a")
    assert time.monotonic() - began < 20
    over = ended(client, made, PATIENCE)
    assert (over.status, over.request_counts.completed) == ("completed", 1)
    assert house.metric("llm_gateway_batch_lines_total", result="gave_way") == given_up + 1
