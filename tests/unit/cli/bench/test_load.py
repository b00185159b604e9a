"""Offering load: clients that wait, and arrivals that do not."""

import asyncio
import time
from itertools import count

from gateway.cli.bench.load import offer
from gateway.cli.bench.plan import LoadLevel
from gateway.cli.bench.sample import Sample


class Server:
    """Answers when it is told to."""

    def __init__(self):
        self.asked, self.running, self.most = [], 0, 0
        self.answering = asyncio.Event()
        self.fifty = asyncio.Event()

    async def ask(self, number, due):
        self.asked.append((number, due))
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == 50:
            self.fifty.set()
        await self.answering.wait()
        await asyncio.sleep(0)
        self.running -= 1
        return Sample(due=due or 0.0, sent=0.0)


async def offered(level, server, numbers=None):
    seen = []
    numbers = count() if numbers is None else numbers
    async with asyncio.timeout(20):
        await offer(level, server.ask, numbers, seen.append, seed=0)
    return seen


async def test_clients_send_all_requests_and_no_more_at_a_time_than_they_are():
    server = Server()
    server.answering.set()
    seen = await offered(LoadLevel(clients=3, requests=20), server)
    assert len(seen) == 20
    assert sorted(number for number, _ in server.asked) == list(range(20))
    assert server.most == 3


async def test_more_clients_than_requests_send_each_once():
    server = Server()
    server.answering.set()
    assert len(await offered(LoadLevel(clients=9, requests=2), server)) == 2


async def test_a_client_waits_for_its_answer():
    server = Server()
    task = asyncio.create_task(offered(LoadLevel(clients=2, requests=4), server))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(server.asked) == 2
    server.answering.set()
    assert len(await task) == 4


async def test_arrivals_wait_for_nobody():
    server = Server()
    task = asyncio.create_task(offered(LoadLevel(rate=1_000.0, requests=50), server))
    async with asyncio.timeout(20):
        await server.fifty.wait()
    assert server.most == 50
    server.answering.set()
    assert len(await task) == 50


async def test_arrivals_are_due_as_scheduled_however_late_they_are_sent():
    server = Server()
    server.answering.set()
    level = LoadLevel(rate=100.0, requests=20)
    before = time.monotonic()
    await offered(level, server)
    dues = [due for _, due in server.asked]
    wanted = [dues[0] + at for at in level.schedule(0)]
    assert all(abs(due - want) < 1e-6 for due, want in zip(dues, wanted, strict=True))
    assert dues[0] >= before


async def test_a_level_begins_nothing_after_its_time():
    server = Server()
    server.answering.set()
    begun = time.monotonic()
    seen = await offered(LoadLevel(clients=2, seconds=0.05), server)
    assert seen
    assert time.monotonic() - begun < 10


async def test_numbers_go_on_where_the_last_level_ended():
    server, numbers = Server(), count()
    server.answering.set()
    await offered(LoadLevel(clients=2, requests=3), server, numbers)
    await offered(LoadLevel(rate=1_000.0, requests=3), server, numbers)
    assert sorted(number for number, _ in server.asked) == list(range(6))
