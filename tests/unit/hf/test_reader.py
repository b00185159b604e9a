"""Which text is read when: short ones beside long ones, each kind in its line, and none for a caller that has left."""

import asyncio
import gc
import threading
import weakref

import pytest

from gateway.engine import Chat, Completion, Message, Overloaded, Text, Thought, Tokens, Tool, ToolCall, ToolResult
from gateway_hf import reader as module
from gateway_hf.reader import Reader, size_of

SHORT, LONG = 100, 1 << 20


@pytest.fixture
async def reader():
    reader = Reader()
    yield reader
    await asyncio.to_thread(reader.close)


class Held:
    """A job that is being read until it is let go."""

    def __init__(self):
        self.begun, self._let_go = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self._let_go.wait(20)
        return threading.current_thread().name

    async def reached(self):
        assert await asyncio.to_thread(self.begun.wait, 20)

    def is_let_go(self):
        return self._let_go.is_set()

    def let_go(self):
        self._let_go.set()


async def test_a_short_text_does_not_wait_for_a_long_one(reader):
    held = Held()
    long = asyncio.create_task(reader.read(held, LONG))
    await held.reached()
    assert await asyncio.wait_for(reader.read(lambda: "read", SHORT), 20) == "read"
    assert not long.done()
    held.let_go()
    assert (await long).startswith("hf-reader-long")


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_one_text_of_a_kind_is_read_after_the_other(reader, size):
    read = []
    await asyncio.gather(*[reader.read(lambda n=n: read.append(n), size) for n in range(20)])
    assert read == list(range(20))


async def test_the_text_of_a_caller_that_leaves_is_not_read_and_not_kept(reader):
    class Job:
        def __call__(self):
            read.append(self)

    read, held, waiting = [], Held(), Job()
    first = asyncio.create_task(reader.read(held, LONG))
    await held.reached()
    second = asyncio.create_task(reader.read(waiting, LONG))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    kept = weakref.ref(waiting)
    del waiting, second
    gc.collect()
    assert kept() is None
    held.let_go()
    await first
    assert await reader.read(lambda: "next", LONG) == "next"
    assert read == []


async def test_what_is_being_read_for_a_caller_that_left_holds_the_line_until_it_has_ended(reader):
    held = Held()
    first = asyncio.create_task(reader.read(held, LONG))
    await held.reached()
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(reader.read(held.is_let_go, LONG))
    await asyncio.sleep(0)
    held.let_go()
    assert await second


async def test_an_error_of_a_job_is_its_callers(reader):
    with pytest.raises(ZeroDivisionError):
        await reader.read(lambda: 1 // 0, SHORT)
    assert await reader.read(lambda: 1, SHORT) == 1


@pytest.mark.parametrize(("limit", "most"), [("_MOST_READS", 2), ("_MOST_BYTES", 2 * LONG)])
async def test_no_more_waits_than_the_line_has_room_for(reader, monkeypatch, limit, most):
    monkeypatch.setattr(module, limit, most)
    held = Held()
    first = asyncio.create_task(reader.read(held, LONG))
    await held.reached()
    waiting = [asyncio.create_task(reader.read(lambda: "read", LONG)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="waits to be read"):
        await reader.read(lambda: None, LONG)
    assert await reader.read(lambda: "short", SHORT) == "short"
    held.let_go()
    await first
    assert await asyncio.gather(*waiting) == ["read", "read"]
    assert await reader.read(lambda: "read", LONG) == "read"


async def test_a_text_larger_than_the_line_is_read_where_none_waits(reader, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    assert await reader.read(lambda: "read", LONG) == "read"


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        (Completion("abc"), 3),
        (Completion("äbc"), 9),
        (Tokens((1, 2)), 8),
        (Chat((Message("user", (Text("ab"), Text("c"))), Message("assistant", (Text("ä"),)))), 6),
        (Chat((Message("user", (Text("ab"),)),), template_arguments={"a": "b" * 90}), 101),
        (Chat((Message("assistant", (ToolCall("1", "f", "ab"), ToolResult("1", "c"), Thought("d"))),)), 4),
        (Chat((), tools=(Tool("f", "b" * 90),)), len(str((Tool("f", "b" * 90),)))),
    ],
)
def test_the_size_of_a_prompt_is_about_its_bytes(prompt, size):
    assert size_of(prompt) == size
