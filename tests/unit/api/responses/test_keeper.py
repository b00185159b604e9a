"""What a response goes on from, and what is stored of one."""

import json

import msgspec
import pytest

from gateway.api.http.problems import Problem
from gateway.api.responses.begin import RESPONSE
from gateway.api.responses.keeper import past_items, recall, to_keeper, to_stored
from gateway.api.responses.schema import responses_decoder
from gateway.api.responses.translate import to_items
from gateway.engine import Delta, InvalidRequest, Message, Text
from gateway.store import Entry, Store, StoreSettings

MOST = 100_000


def body(**fields):
    return responses_decoder.decode(msgspec.json.encode({"input": "hi"} | fields))


def reply(name, text="yes", status="completed"):
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    output = [{"type": "message", "id": f"msg_{name}_0", "status": status, "role": "assistant", "content": content}]
    return json.dumps({"id": f"resp_{name}", "created_at": 7, "status": status, "output": output}).encode()


@pytest.fixture
async def shelf():
    async with Store(StoreSettings()) as store:
        yield store.of("a")


def said(messages):
    return [(message.role, message.text) for message in messages]


async def keep(shelf, name, **fields):
    assert await to_keeper(body(**fields), name, shelf).keep(reply(name))


async def test_a_chain_is_recalled_from_its_beginning(shelf):
    await keep(shelf, "1", input="one", instructions="not carried over")
    await keep(shelf, "2", input=[{"role": "user", "content": "two"}], previous_response_id="resp_1")
    found = await recall(body(previous_response_id="resp_2"), shelf, MOST)
    assert said(found) == [("user", "one"), ("assistant", "yes"), ("user", "two"), ("assistant", "yes")]
    assert await recall(body(), shelf, MOST) == ()


async def test_a_chain_with_a_gap_names_what_is_missing(shelf):
    await keep(shelf, "1")
    await keep(shelf, "2", previous_response_id="resp_1")
    await shelf.delete(RESPONSE, "resp_1")
    with pytest.raises(Problem, match="'resp_1'") as missing:
        await recall(body(previous_response_id="resp_2"), shelf, MOST)
    assert (missing.value.code, missing.value.param) == ("not_found", "previous_response_id")


async def test_a_chain_is_no_longer_than_a_body(shelf):
    await keep(shelf, "1", input="w" * 5_000)
    await keep(shelf, "2", input="w" * 5_000, previous_response_id="resp_1")
    assert len(await past_items(shelf, "resp_1", 8_000)) == 2
    with pytest.raises(InvalidRequest, match="more than 8000 bytes") as long:
        await past_items(shelf, "resp_2", 8_000)
    assert long.value.param == "previous_response_id"


@pytest.mark.parametrize("status", ["failed", "cancelled", "queued", "in_progress"])
async def test_nothing_goes_on_from_what_is_not_finished(shelf, status):
    await to_keeper(body(), "1", shelf).keep(reply("1", status=status))
    with pytest.raises(InvalidRequest, match="nothing can go on from it"):
        await recall(body(previous_response_id="resp_1"), shelf, MOST)


async def test_what_was_cut_off_can_be_gone_on_from(shelf):
    await to_keeper(body(), "1", shelf).keep(reply("1", status="incomplete"))
    assert await recall(body(previous_response_id="resp_1"), shelf, MOST) == (
        Message("user", (Text("hi"),)), Message("assistant", (Text("yes"),)),
    )  # fmt: skip


async def test_only_what_is_asked_for_is_stored(shelf):
    assert to_keeper(body(store=False), "1", shelf) is None
    await keep(shelf, "1")
    keeper = to_keeper(body(store=False, previous_response_id="resp_1"), "2", shelf)
    assert len(await keeper.recall(MOST)) == 2
    assert await keeper.keep(reply("2"))
    assert await shelf.get(RESPONSE, "resp_2") is None


async def test_a_background_answer_is_stored_twice_and_its_events_where_it_is_a_stream(shelf):
    for name, stream in (("1", True), ("2", False)):
        keeper = to_keeper(body(background=True, stream=stream), name, shelf)
        assert keeper.is_background
        assert await keeper.begin(reply(name, "", "queued"))
        await keeper.finish(reply(name), [Delta("yes")])
        entry = await shelf.get(RESPONSE, f"resp_{name}")
        assert entry.body == reply(name)
        assert (b"yes" in entry.events, "streamed" in entry.labels) == (stream, stream)


async def test_an_answer_that_was_deleted_meanwhile_stays_away(shelf):
    keeper = to_keeper(body(background=True), "1", shelf)
    await keeper.begin(reply("1", "", "queued"))
    await shelf.delete(RESPONSE, "resp_1")
    await keeper.finish(reply("1"), [])
    assert await shelf.get(RESPONSE, "resp_1") is None


async def test_a_store_that_is_down_is_told_and_raises_nothing(tmp_path):
    (tmp_path / "store.db").mkdir()
    async with Store(StoreSettings(file=str(tmp_path / "store.db"))) as store:
        keeper = to_keeper(body(background=True), "1", store.of("a"))
        assert not await keeper.keep(reply("1"))
        assert not await keeper.begin(reply("1"))
        await keeper.finish(reply("1"), [])


def test_items_are_listed_with_ids_and_without_what_was_left_out():
    items = [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [{"type": "input_text", "text": "b"}], "id": "own"},
        {"type": "function_call_output", "call_id": "c", "output": "d"},
    ]
    assert list(to_stored(to_items(body(input=items).input), "1")) == [
        {
            "id": "item_1_0", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "a"}],
        },
        {
            "id": "own", "type": "message", "role": "user", "status": "completed",
            "content": [{"type": "input_text", "text": "b"}],
        },
        {"id": "item_1_2", "type": "function_call_output", "call_id": "c", "output": "d", "status": "completed"},
    ]  # fmt: skip


async def test_an_entry_is_as_old_as_its_response(shelf):
    await keep(shelf, "1", previous_response_id=None)
    entry = await shelf.get(RESPONSE, "resp_1")
    assert isinstance(entry, Entry)
    assert (entry.created, entry.labels, entry.body) == (7, {}, reply("1"))
