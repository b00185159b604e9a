"""The official OpenAI SDK's Responses against the real service: stored, streamed, in the background, resumed."""

import json

import openai
import pytest

from tests.support.observe import eventually, play
from tests.support.service import Service, total

SLOW = {"texts": ["tick "] * 40, "delay": 0.05}
QUICK = {"texts": ["tick "] * 6, "delay": 0.02}
PATIENCE = 20.0


@pytest.fixture(scope="module")
def house():
    """An echo, and an engine that follows scripts."""
    with Service(
        LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted", LLM_GATEWAY__STORE__BACKGROUND="2", LOG_LEVEL="DEBUG"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(house):
    with openai.OpenAI(base_url=house.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def responses(client):
    return client.responses


def ended(responses, made):
    """Wait for a response in the background."""
    eventually(lambda: responses.retrieve(made.id).status not in ("queued", "in_progress"), PATIENCE)
    return responses.retrieve(made.id)


def found(responses, identity):
    try:
        return responses.retrieve(identity)
    except openai.NotFoundError:
        return None


def test_a_whole_response_is_stored(responses):
    answer = responses.create(model="echo", input="one two three", metadata={"a": "b"})
    assert answer.output_text == "one two three"
    assert (answer.status, answer.error, answer.id) == ("completed", None, f"resp_{answer._request_id}")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (3, 3, 6)
    assert responses.retrieve(answer.id).model_dump() == answer.model_dump()


def test_a_stream_is_the_whole_response_in_pieces_and_is_stored(responses):
    with responses.stream(model="echo", input="one two three") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["one ", "two ", "three"]
    assert final.output_text == "one two three"
    assert responses.retrieve(final.id).output_text == "one two three"


def test_a_response_goes_on_from_another(responses):
    first = responses.create(model="echo", input="one", instructions="Be brief.")
    second = responses.create(model="echo", input="two", previous_response_id=first.id)
    assert second.usage.input_tokens == 3  # what was said and answered before; instructions are not carried over
    items = list(responses.input_items.list(second.id, order="asc"))
    assert [(item.role, item.content[0].text) for item in items] == [
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
    ]
    newest = responses.input_items.list(second.id, limit=1)
    assert (newest.data[0].content[0].text, newest.has_more) == ("two", True)
    assert [item.content[0].text for item in responses.input_items.list(second.id, limit=1)] == ["two", "one", "one"]


def test_what_an_answer_says_can_be_sent_back(responses):
    first = responses.create(model="echo", input="one")
    again = responses.create(
        model="echo", input=[{"role": "user", "content": "one"}, *first.output, {"role": "user", "content": "two"}]
    )
    assert (again.output_text, again.usage.input_tokens) == ("two", 3)


def test_an_item_can_be_referred_to(responses):
    first = responses.create(model="echo", input="one")
    reference = {"type": "item_reference", "id": first.output[0].id}
    asked = {
        "model": "echo",
        "input": [{"role": "user", "content": "one"}, reference, {"role": "user", "content": "two"}],
    }
    again = responses.create(**asked)
    assert (again.output_text, again.usage.input_tokens) == ("two", 3)
    assert responses.input_tokens.count(**asked).input_tokens == 3
    assert [item.content[0].text for item in responses.input_items.list(again.id)] == ["two", "one", "one"]


def test_a_response_that_is_not_to_be_stored_is_not(responses):
    answer = responses.create(model="echo", input="one", store=False)
    assert answer.output_text == "one"
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(answer.id)


def test_a_deleted_response_is_gone(responses):
    answer = responses.create(model="echo", input="one")
    responses.delete(answer.id)
    for ask in (responses.retrieve, responses.delete, responses.input_items.list, responses.cancel):
        with pytest.raises(openai.NotFoundError) as missing:
            ask(answer.id)
        assert missing.value.param == "response_id"
    with pytest.raises(openai.NotFoundError) as missing:
        responses.create(model="echo", input="two", previous_response_id=answer.id)
    assert missing.value.param == "previous_response_id"


def test_input_tokens_are_counted(responses):
    first = responses.create(model="echo", input="one two")
    assert responses.input_tokens.count(model="echo", input="three").input_tokens == 1
    count = responses.input_tokens.count(model="echo", input="three", previous_response_id=first.id)
    assert (count.input_tokens, count.object) == (5, "response.input_tokens")


def test_a_response_in_the_background_is_made_though_its_client_leaves(responses):
    made = responses.create(model="scripted", input=play(**QUICK), background=True)
    assert (made.status, made.output, made.background) == ("queued", [], True)
    answer = ended(responses, made)
    assert (answer.status, answer.output_text, answer.usage.output_tokens) == ("completed", "tick " * 6, 6)
    assert responses.cancel(made.id).status == "completed"


def test_a_response_under_way_shows_what_there_is_and_is_cancelled(house, responses):
    made = responses.create(model="scripted", input=play(**SLOW), background=True)
    eventually(lambda: responses.retrieve(made.id).output_text.startswith("tick tick"), PATIENCE)
    with pytest.raises(openai.BadRequestError, match="not finished"):
        responses.create(model="echo", input="on", previous_response_id=made.id)
    cancelled = responses.cancel(made.id)
    assert cancelled.status == "cancelled"
    assert cancelled.output_text.startswith("tick tick")
    assert responses.retrieve(made.id).status == "cancelled"
    assert house.client.get("/v1/requests").json()["data"] == []


def test_a_deleted_response_under_way_is_ended(house, responses):
    made = responses.create(model="scripted", input=play(**SLOW), background=True)
    responses.delete(made.id)
    assert house.client.get("/v1/requests").json()["data"] == []
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(made.id)


def test_a_stream_that_broke_off_goes_on_where_it_did(responses):
    with responses.create(model="scripted", input=play(**QUICK), background=True, stream=True) as stream:
        first = [next(stream) for _ in range(6)]
    made = first[0].response
    rest = list(responses.retrieve(made.id, stream=True, starting_after=5))
    assert [event.sequence_number for event in (*first, *rest)] == list(range(6 + len(rest)))
    assert rest[-1].type == "response.completed"
    again = list(responses.retrieve(made.id, stream=True))  # it has ended: the same events from the store
    assert [event.model_dump() for event in again] == [event.model_dump() for event in (*first, *rest)]
    assert responses.retrieve(made.id).model_dump() == rest[-1].response.model_dump()


def test_a_cancelled_stream_says_so_to_its_reader_and_afterwards(responses):
    with responses.create(model="scripted", input=play(**SLOW), background=True, stream=True) as stream:
        made = next(stream).response
        responses.cancel(made.id)
        last = list(stream)[-1]
    assert (last.type, last.response.status) == ("response.failed", "cancelled")
    again = list(responses.retrieve(made.id, stream=True))[-1]
    assert again.model_dump() == last.model_dump()


def test_a_failure_in_the_background_is_told_when_it_is_read(responses):
    broken = {"texts": ["a"], "fault": "raise", "after": 1, "message": "it broke"}
    answer = ended(responses, responses.create(model="scripted", input=play(**broken), background=True))
    assert (answer.status, answer.output_text) == ("failed", "a")
    assert (answer.error.code, answer.error.message) == ("server_error", "it broke")


def test_a_stream_that_failed_ends_with_its_event(responses):
    broken = {"texts": ["a"], "fault": "raise", "after": 1, "message": "it broke"}
    *_, last = responses.create(model="scripted", input=play(**broken), stream=True)
    assert (last.type, last.response.error.message) == ("response.failed", "it broke")
    assert responses.retrieve(last.response.id).model_dump() == last.response.model_dump()


def test_a_stream_whose_client_leaves_is_stored_as_cancelled_with_what_was_made(responses):
    with responses.create(model="scripted", input=play(**SLOW), stream=True) as stream:
        made = next(stream).response
        next(event for event in stream if event.type == "response.output_text.delta")
    eventually(lambda: found(responses, made.id), PATIENCE)
    left = responses.retrieve(made.id)
    assert (left.status, left.error) == ("cancelled", None)
    assert left.output_text.startswith("tick ")
    with pytest.raises(openai.BadRequestError, match="is cancelled: nothing can go on from it"):
        responses.create(model="echo", input="on", previous_response_id=made.id)


def test_what_is_not_to_be_stored_is_not_where_it_fails(responses):
    broken = {"texts": ["a"], "fault": "raise", "after": 1, "message": "it broke"}
    *_, last = responses.create(model="scripted", input=play(**broken), stream=True, store=False)
    assert last.type == "response.failed"
    assert not found(responses, last.response.id)


def test_the_background_is_bounded(house, responses):
    made = [responses.create(model="scripted", input=play(**SLOW), background=True) for _ in range(2)]
    with pytest.raises(openai.InternalServerError, match="2 answers are made in the background") as refused:
        responses.create(model="scripted", input=play(**SLOW), background=True)
    assert (refused.value.status_code, refused.value.code) == (503, "overloaded")
    for each in made:
        responses.cancel(each.id)
    assert ended(responses, responses.create(model="echo", input="one", background=True)).output_text == "one"


def test_the_metrics_say_what_is_stored(house, responses):
    before = house.scrape()
    responses.create(model="echo", input="one")
    after = house.scrape()
    assert total(after, "llm_gateway_store_entries") == total(before, "llm_gateway_store_entries") + 1
    assert total(after, "llm_gateway_store_bytes") > total(before, "llm_gateway_store_bytes") + 500


WRONG = {
    "stream": ("GET", "/v1/responses/{id}?stream=true", None),
    "starting_after": ("GET", "/v1/responses/{id}?starting_after=1", None),
    "include[]": ("GET", "/v1/responses/{id}?include[]=x", None),
    "response_id": ("POST", "/v1/responses/{id}/cancel", {}),
    "limit": ("GET", "/v1/responses/{id}/input_items?limit=101", None),
    "order": ("GET", "/v1/responses/{id}/input_items?order=up", None),
}


@pytest.mark.parametrize("param", WRONG)
def test_a_parameter_of_a_url_is_honoured_or_refused_by_its_name(house, responses, param):
    method, path, body = WRONG[param]
    made = responses.create(model="echo", input="one")
    answer = house.client.request(method, path.format(id=made.id), json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    after = house.client.get(f"/v1/responses/{made.id}/input_items?after=none")
    assert (after.status_code, after.json()["error"]["param"]) == (404, "after")


async def test_the_asynchronous_client_too(house):
    async with openai.AsyncOpenAI(base_url=house.url + "/v1", api_key="none") as client:
        stream = await client.responses.create(model="echo", input="one two", stream=True)
        kinds = [event.type async for event in stream]
    assert kinds[-1] == "response.completed"


def test_no_text_of_it_is_in_the_log(house, responses):
    made = responses.create(model="scripted", input=json.dumps({"secret": "zebra"}), background=True)
    ended(responses, made)
    assert "zebra" not in house.output
