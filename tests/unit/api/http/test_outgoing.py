import asyncio

import pytest

from gateway.api.http.outgoing import PIECE, Outgoing
from gateway.flow.offload import LARGE

BODY = bytes(range(256)) * 1_000


class Client:
    """Takes pieces until it has so many, and none after that."""

    def __init__(self, reads=10**9):
        self.messages = []
        self.reads = reads

    async def send(self, message):
        if len(self.messages) == self.reads:
            await asyncio.Event().wait()
        self.messages.append(message)


async def test_an_answer_comes_in_pieces_whose_last_one_says_so():
    outgoing, client = Outgoing(2**20), Client()
    await outgoing.send(client.send, BODY, 1.0, more_body=False)
    assert b"".join(message["body"] for message in client.messages) == BODY
    assert max(len(message["body"]) for message in client.messages) == PIECE
    assert [message["more_body"] for message in client.messages][-2:] == [True, False]
    assert outgoing.budget.held == 0


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
async def test_a_large_answer_puts_off_the_turns_of_large_bodies_as_it_is_sent(monkeypatch, size):
    spent = []
    monkeypatch.setattr("gateway.api.http.outgoing.turns.spend", spent.append)
    await Outgoing(2**20).send(Client().send, bytes(size), 1.0, more_body=False)
    assert sum(spent) == (size if size > LARGE else 0)


async def test_a_client_that_reads_nothing_is_given_up_and_holds_nothing():
    outgoing, client = Outgoing(2**20), Client(reads=3)
    with pytest.raises(TimeoutError):
        await outgoing.send(client.send, BODY, 0.01, more_body=False)
    assert len(client.messages) == 3
    assert outgoing.budget.held == 0


async def test_the_same_bytes_for_many_clients_count_once():
    outgoing = Outgoing(2**20)
    sending = [asyncio.create_task(outgoing.send(Client(0).send, BODY, 1.0, more_body=False)) for _ in range(5)]
    await asyncio.sleep(0)
    assert len(BODY) < outgoing.budget.held < 3 * len(BODY)
    for task in sending:
        task.cancel()
    await asyncio.wait(sending)
    assert outgoing.budget.held == 0


async def test_answers_beyond_the_budget_wait_until_others_were_read():
    outgoing, first, second = Outgoing(len(BODY)), Client(0), Client()
    held = asyncio.create_task(outgoing.send(first.send, BODY, 60.0, more_body=False))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(outgoing.send(second.send, bytes(BODY[:-1]), 60.0, more_body=False))
    await asyncio.sleep(0)
    assert second.messages == []
    held.cancel()
    await waiting
    assert second.messages[-1]["more_body"] is False
