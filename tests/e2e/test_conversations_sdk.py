"""Conversations of the official OpenAI SDK against the real service: made, gone on with by responses, taken apart."""

import openai
import pytest

from gateway.auth import KeyFile
from tests.support.observe import eventually
from tests.support.service import Service

PATIENCE = 20.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = KeyFile(tmp_path_factory.mktemp("keys") / "keys.db")
    return file, [file.create(name)[1] for name in ("alice", "bob")]


@pytest.fixture(scope="module")
def house(keys):
    with Service(LLM_GATEWAY__AUTH__FILE=str(keys[0].path), LLM_GATEWAY__SERVER__MAX_BODY_BYTES="20000") as running:
        yield running


@pytest.fixture(scope="module")
def clients(house, keys):
    made = [openai.OpenAI(base_url=house.url + "/v1", api_key=key, max_retries=0) for key in keys[1]]
    yield made
    for client in made:
        client.close()


@pytest.fixture
def client(clients):
    return clients[0]


def texts(client, conversation):
    return [item.content[0].text for item in client.conversations.items.list(conversation.id, order="asc")]


def test_a_conversation_is_made_described_and_deleted(client):
    made = client.conversations.create(metadata={"topic": "demo"}, items=[{"role": "user", "content": "one"}])
    assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "other"})
    assert client.conversations.retrieve(made.id) == changed == made.model_copy(update={"metadata": {"topic": "other"}})
    assert texts(client, made) == ["one"]
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_responses_go_on_with_a_conversation_and_add_to_it(client):
    made = client.conversations.create(items=[{"role": "user", "content": "one"}])
    answer = client.responses.create(model="echo", input="two", conversation=made.id)
    assert (answer.output_text, answer.usage.input_tokens, answer.conversation.id) == ("two", 2, made.id)
    assert texts(client, made) == ["one", "two", "two"]
    with client.responses.stream(model="echo", input="three", conversation={"id": made.id}, store=False) as stream:
        assert stream.get_final_response().usage.input_tokens == 4
    assert texts(client, made) == ["one", "two", "two", "three", "three"]
    later = client.responses.create(model="echo", input="four", conversation=made.id, background=True)
    eventually(lambda: client.responses.retrieve(later.id).status == "completed", PATIENCE)
    eventually(lambda: texts(client, made)[5:] == ["four", "four"], PATIENCE)
    count = client.responses.input_tokens.count(model="echo", input="five", conversation=made.id)
    assert count.input_tokens == 8


def test_items_are_added_listed_found_and_taken_out(client):
    made = client.conversations.create()
    assert texts(client, made) == []
    said = [{"role": "user", "content": [{"type": "input_text", "text": text}]} for text in ("one", "two", "three")]
    added = client.conversations.items.create(made.id, items=said)
    assert [item.content[0].text for item in added.data] == ["one", "two", "three"]
    newest = client.conversations.items.list(made.id, limit=2)
    assert ([item.content[0].text for item in newest.data], newest.has_more) == (["three", "two"], True)
    assert texts(client, made) == ["one", "two", "three"]
    second = added.data[1]
    assert client.conversations.items.retrieve(second.id, conversation_id=made.id) == second
    assert client.conversations.items.delete(second.id, conversation_id=made.id).id == made.id
    assert texts(client, made) == ["one", "three"]
    with pytest.raises(openai.NotFoundError) as missing:
        client.conversations.items.retrieve(second.id, conversation_id=made.id)
    assert missing.value.param == "item_id"


def test_no_key_reaches_anothers_conversation(clients):
    alice, bob = clients
    made = alice.conversations.create(items=[{"role": "user", "content": "one"}])
    item = alice.conversations.items.list(made.id).data[0]
    for ask in (
        lambda: bob.conversations.retrieve(made.id),
        lambda: bob.conversations.update(made.id, metadata={}),
        lambda: bob.conversations.delete(made.id),
        lambda: bob.conversations.items.list(made.id),
        lambda: bob.conversations.items.create(made.id, items=[{"role": "user", "content": "two"}]),
        lambda: bob.conversations.items.retrieve(item.id, conversation_id=made.id),
        lambda: bob.conversations.items.delete(item.id, conversation_id=made.id),
    ):
        with pytest.raises(openai.NotFoundError) as missing:
            ask()
        assert missing.value.param == "conversation_id"
    with pytest.raises(openai.NotFoundError) as missing:
        bob.responses.create(model="echo", input="two", conversation=made.id)
    assert missing.value.param == "conversation"
    assert texts(alice, made) == ["one"]


def test_a_conversation_is_no_longer_than_a_body(client):
    made = client.conversations.create(items=[{"role": "user", "content": "w" * 15_000}])
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.items.create(made.id, items=[{"role": "user", "content": "w" * 10_000}])
    assert refused.value.param == "items"
    raw = client.responses.with_raw_response.create(model="echo", input="w" * 5_000, conversation=made.id)
    assert raw.headers["x-stored"] == "false"  # the answer is given, though the conversation has no room for it
    assert raw.parse().output_text == "w" * 5_000
    assert len(client.conversations.items.list(made.id).data) == 1


@pytest.mark.parametrize("item", [{"type": "computer_call"}, {"role": "user", "content": []}, {"content": "a"}])
def test_an_item_that_no_model_could_be_told_of_is_refused_by_its_path(client, item):
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.create(items=[{"role": "user", "content": "one"}, item])
    assert refused.value.param.startswith("items[1].")
