"""References to stored items, and what stands in their places."""

import json

import msgspec
import pytest

from gateway.api.http.problems import Problem
from gateway.api.responses.keeper import to_keeper
from gateway.api.responses.references import has_references, resolve
from gateway.api.responses.schema import responses_decoder
from gateway.engine import InvalidRequest, Message, Text
from gateway.store import Store, StoreSettings

MOST = 100_000


def body(*items, **fields):
    return responses_decoder.decode(msgspec.json.encode({"input": items or "hi"} | fields))


def refer(name):
    return {"type": "item_reference", "id": name}


def reply(name):
    content = [{"type": "output_text", "text": f"said in {name}", "annotations": [], "logprobs": []}]
    output = [
        {"type": "message", "id": f"msg_{name}_0", "status": "completed", "role": "assistant", "content": content}
    ]
    return json.dumps({"id": f"resp_{name}", "created_at": 7, "status": "completed", "output": output}).encode()


@pytest.fixture
async def shelf():
    async with Store(StoreSettings()) as store:
        yield store.of("a")


async def keep(shelf, name):
    assert await to_keeper(body(), name, shelf).keep(reply(name))


async def test_items_of_answers_and_of_inputs_stand_in_the_places_of_their_references(shelf):
    await keep(shelf, "1")
    await keep(shelf, "2")
    own = {"role": "user", "content": "own"}
    found = await resolve(body(refer("msg_2_0"), own, refer("item_1_0"), refer("msg_1_0")), shelf, MOST)
    assert [(item.role, item.id) for item in found.input] == [
        ("assistant", "msg_2_0"), ("user", None), ("user", "item_1_0"), ("assistant", "msg_1_0"),
    ]  # fmt: skip
    assert found.input[3].content[0].text == "said in 1"


async def test_an_input_without_references_stays_as_it_is(shelf):
    for made in (body(), body({"role": "user", "content": "own"})):
        assert not has_references(made)
        assert await resolve(made, shelf, MOST) is made


@pytest.mark.parametrize("name", ["msg_1_9", "msg_3_0", "", "msg", None])
async def test_an_item_that_is_not_there_is_named_by_its_path(shelf, name):
    await keep(shelf, "1")
    with pytest.raises(Problem) as missing:
        await resolve(body(refer("msg_1_0"), refer(name)), shelf, MOST)
    assert (missing.value.code, missing.value.param) == ("not_found", "input[1].id")


async def test_what_is_referred_to_is_no_longer_than_a_body(shelf):
    for name in ("1", "2"):
        await keep(shelf, name)
    with pytest.raises(InvalidRequest) as long:
        await resolve(body(refer("msg_1_0"), refer("msg_1_0"), refer("msg_2_0")), shelf, 1_000)
    assert long.value.param == "input[2]"


async def test_no_owner_refers_to_anothers_items():
    async with Store(StoreSettings()) as store:
        await keep(store.of("a"), "1")
        with pytest.raises(Problem):
            await resolve(body(refer("msg_1_0")), store.of("b"), MOST)


async def test_a_keeper_recalls_references_also_where_nothing_is_stored(shelf):
    await keep(shelf, "1")
    keeper = to_keeper(body(refer("msg_1_0"), store=False), "2", shelf)
    assert await keeper.recall(MOST) == ()
    assert keeper.body.input[0].content[0].text == "said in 1"


async def test_what_went_on_from_a_reference_can_be_gone_on_from(shelf):
    await keep(shelf, "1")
    keeper = to_keeper(body(refer("msg_1_0")), "2", shelf)
    await keeper.recall(MOST)
    await keeper.keep(reply("2"))
    past = await to_keeper(body(previous_response_id="resp_2"), "3", shelf).recall(MOST)
    assert past == (Message("assistant", (Text("said in 1"),)), Message("assistant", (Text("said in 2"),)))
