"""`truncation: auto`: the oldest parts of a conversation are left out until the rest fits; pure."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import structs

from gateway.engine import Chat, GenerateRequest, Message

# Each step leaves out so much of the bytes that are left, so that few steps do, and little more goes than has to.
_SHARE = 1 / 8

_encode = msgspec.msgpack.Encoder().encode

# The places of messages that go together: a call and its results.
Unit = tuple[int, ...]


def shorten(request: GenerateRequest) -> GenerateRequest | None:
    """Leave out an eighth of a conversation, or a little more; `None` where nothing of it may go.

    Of the oldest turn first the steps between its question and its answer go, then both; so what is left begins with
    a question. Messages of the system, the last message of the user and the last step behind it stay.
    """
    if not isinstance(request.prompt, Chat):
        return None
    messages = request.prompt.messages
    sizes = [len(_encode(message)) for message in messages]
    left = sum(sizes) * _SHARE
    gone: set[int] = set()
    for unit in _expendable(messages):
        gone.update(unit)
        left -= sum(sizes[place] for place in unit)
        if left <= 0:
            break
    if not gone:
        return None
    kept = tuple(message for place, message in enumerate(messages) if place not in gone)
    return structs.replace(request, prompt=structs.replace(request.prompt, messages=kept))


def _expendable(messages: Sequence[Message]) -> Iterator[Unit]:
    """Yield what may go, in the order in which it goes."""
    *earlier, last = _turns(messages)
    for turn in earlier:
        if messages[turn[0][0]].role == "user":
            question, *steps = turn
            answer = steps.pop() if steps else ()
            yield from steps
            yield (*question, *answer)
        else:
            yield from turn
    begins = 1 if last and messages[last[0][0]].role == "user" else 0
    yield from last[begins:-1]


def _turns(messages: Sequence[Message]) -> list[list[Unit]]:
    """Split a conversation at the messages of the user; what comes before the first one is a turn, too."""
    turns: list[list[Unit]] = []
    for place, message in enumerate(messages):
        if message.role == "system":
            continue
        if message.role == "tool" and turns:
            turns[-1][-1] = (*turns[-1][-1], place)
        elif message.role == "user" or not turns:
            turns.append([(place,)])
        else:
            turns[-1].append((place,))
    return turns or [[]]
