"""Stored chat completions of the official OpenAI SDK against the real service."""

import openai
import pytest

from gateway.auth import KeyFile
from tests.support.service import Service

QUESTION = [{"role": "system", "content": "Echo."}, {"role": "user", "content": "one two"}]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    keys = KeyFile(folder / "keys.db")
    texts = [keys.create(name)[1] for name in ("alice", "bob")]
    with Service(LLM_GATEWAY__AUTH__FILE=str(keys.path), LLM_GATEWAY__STORE__FILE=str(folder / "store.db")) as running:
        running.keys = texts
        yield running


@pytest.fixture(scope="module")
def clients(house):
    made = [openai.OpenAI(base_url=house.url + "/v1", api_key=key, max_retries=0) for key in house.keys]
    yield made
    for client in made:
        client.close()


@pytest.fixture
def completions(clients):
    return clients[0].chat.completions


def create(completions, text="one two", **fields):
    messages = [{"role": "user", "content": text}]
    return completions.create(**{"model": "echo", "messages": messages, "store": True} | fields)


def test_a_completion_is_stored_where_it_is_asked_for(completions):
    made = completions.create(model="echo", messages=QUESTION, store=True, metadata={"batch": "7"})
    assert completions.retrieve(made.id).model_dump() == made.model_dump()
    for unasked in ({}, {"store": False}, {"store": None}):
        other = completions.create(model="echo", messages=QUESTION, **unasked)
        with pytest.raises(openai.NotFoundError) as missing:
            completions.retrieve(other.id)
        assert missing.value.param == "completion_id"


def test_a_stream_is_stored_as_the_whole_answer_that_it_is(completions):
    usage = {"include_usage": True}
    for fields in ({}, {"n": 2}, {"stream_options": usage}):
        chunks = list(create(completions, stream=True, **fields))
        stored = completions.retrieve(chunks[0].id).model_dump()
        whole = create(completions, **{name: value for name, value in fields.items() if name != "stream_options"})
        moving = ("id", "created")
        assert {**stored, **dict.fromkeys(moving)} == {**whole.model_dump(), **dict.fromkeys(moving)}


def test_the_messages_are_those_that_it_answers(completions):
    parts = [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]
    made = completions.create(model="echo", store=True, messages=[*QUESTION, {"role": "user", "content": parts}])
    messages = list(completions.messages.list(made.id, limit=2))
    assert [message.id for message in messages] == [f"{made.id}-{number}" for number in range(3)]
    assert [(message.role, message.content) for message in messages[:2]] == [("system", "Echo."), ("user", "one two")]
    assert (messages[2].content, [part.text for part in messages[2].content_parts]) == (None, ["two", "three"])
    newest = completions.messages.list(made.id, order="desc", limit=1)
    assert (newest.data[0].id, newest.has_more) == (messages[2].id, True)


def test_they_are_listed_by_metadata_and_model_a_page_at_a_time(completions):
    batch = {"batch": "listed", "odd name]": "x"}
    made = [create(completions, metadata=batch | {"number": str(number)}).id for number in range(3)]
    create(completions, metadata={"batch": "other"})
    assert [each.id for each in completions.list(metadata=batch, limit=2)] == made
    assert [each.id for each in completions.list(metadata=batch, order="desc")] == made[::-1]
    assert [each.id for each in completions.list(metadata=batch, after=made[0])] == made[1:]
    assert [each.id for each in completions.list(metadata={"number": "1", "batch": "listed"})] == [made[1]]
    assert [each.id for each in completions.list(metadata=batch, model="default")] == made  # by any of its names
    assert list(completions.list(metadata=batch, model="other")) == []
    with pytest.raises(openai.NotFoundError) as missing:
        completions.list(after="chatcmpl-none")
    assert missing.value.param == "after"


def test_the_metadata_can_be_changed(completions):
    made = create(completions, metadata={"state": "old"})
    changed = completions.update(made.id, metadata={"state": "new"})
    assert changed.metadata == {"state": "new"}
    assert completions.retrieve(made.id) == changed
    assert {**changed.model_dump(), "metadata": None} == {**made.model_dump(), "metadata": None}
    assert made.id in [each.id for each in completions.list(metadata={"state": "new"})]
    assert list(completions.list(metadata={"state": "old"})) == []


def test_a_deleted_completion_is_gone(completions):
    made = create(completions)
    gone = completions.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "chat.completion.deleted", True)
    for ask in (completions.retrieve, completions.delete, completions.messages.list):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)


def test_no_key_reaches_anothers_completions(clients):
    alice, bob = (client.chat.completions for client in clients)
    made = create(alice, metadata={"secret": "1"}).id
    for ask in (
        lambda: bob.retrieve(made),
        lambda: bob.update(made, metadata={}),
        lambda: bob.delete(made),
        lambda: bob.messages.list(made),
        lambda: bob.list(after=made),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert list(bob.list()) == []
    assert alice.retrieve(made).metadata == {"secret": "1"}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "order=up", "metadata[]=x", "unheard=1", "metadata=1"])
def test_a_parameter_of_the_url_is_honoured_or_refused_by_its_name(house, query):
    headers = {"authorization": f"Bearer {house.keys[0]}"}
    answer = house.client.get(f"/v1/chat/completions?{query}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
