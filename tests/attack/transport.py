"""Connections and bodies: what never reads, what sends too much, what leaves at any moment."""

import socket
import time
from collections.abc import Iterator

from tests.attack.table import attack
from tests.attack.target import Target
from tests.chaos.row import Row, none_of
from tests.support.rawhttp import request

_MANY = 300
_PIECE = 4 * 1024 * 1024 - 4_096


def _unread(target: Target, path: str, *headers: str) -> list[socket.socket]:
    """Ask for a page on many connections, and read none of them."""
    held = []
    for _ in range(_MANY):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", target.service.port))
        connection.sendall(request("GET", path, *headers))
        held.append(connection)
    return held


def _hold(target: Target, held: list[socket.socket]) -> None:
    while target.goes_on:
        time.sleep(0.1)
    for connection in held:
        connection.close()


@attack(seconds=6.0)
def unread_assets(target: Target) -> Iterator[Row]:
    """Ask for the largest page of the documentation, without a key, and never read it."""
    _hold(target, _unread(target, "/schema/assets/scalar.js"))
    yield from ()


@attack(seconds=6.0)
def unread_assets_unpacked(target: Target) -> Iterator[Row]:
    """Ask for it without any compression."""
    _hold(target, _unread(target, "/schema/assets/scalar.js", "Accept-Encoding: identity"))
    yield from ()


@attack(seconds=6.0)
def unread_answers(target: Target) -> Iterator[Row]:
    """Ask for large whole answers, and never read them."""
    body = b'{"model":"echo","return_full_text":true,"max_new_tokens":1,"prompt":"' + b"a" * 1_000_000 + b'"}'
    held = [target.hold(body) for _ in range(100)]
    while target.goes_on:
        time.sleep(0.1)
    for connection in held:
        connection.reset()
    yield from ()


@attack(seconds=15.0)
def large_bodies(target: Target) -> Iterator[Row]:
    """Send bodies of the largest size, twenty at once."""
    body = b'{"model":"echo","max_new_tokens":1,"prompt":"' + b"a" * _PIECE + b'"}'
    answers = target.many(200, lambda _: target.post("/v1/generate", body) if target.goes_on else None)
    yield typed([answer for answer in answers if answer is not None])


@attack(seconds=6.0)
def slow_heads_and_bodies(target: Target) -> Iterator[Row]:
    """Send heads and bodies letter by letter on many connections."""
    bearer = f"Authorization: Bearer {target.keys['attacker']}"
    head = request("POST", "/v1/generate", "Content-Type: application/json", "Content-Length: 1000", bearer)
    held = []
    for number in range(_MANY):
        connection = socket.create_connection(("127.0.0.1", target.service.port))
        connection.sendall(head[: len(head) - (2 if number % 2 else 0)])
        connection.setblocking(False)  # noqa: FBT003 - the socket's own way
        held.append(connection)
    while target.goes_on:
        time.sleep(0.5)
        for connection in held:
            try:
                connection.send(b" ")
            except OSError:
                continue
    for connection in held:
        connection.close()
    yield from ()


@attack(seconds=6.0)
def aborts(target: Target) -> Iterator[Row]:
    """Leave streams and whole answers at random moments."""

    def leave(number: int) -> None:
        stream = b"true" if number % 2 else b"false"
        body = b'{"model":"echo","prompt":"' + b"word " * 40 + b'","stream":' + stream + b"}"
        connection = target.hold(body)
        time.sleep(target.chance.uniform(0, 0.2))
        connection.reset()

    while target.goes_on:
        target.many(100, leave)
    yield from ()


@attack(seconds=4.0)
def keyless_flood(target: Target) -> Iterator[Row]:
    """Ask without a key, and with wrong ones, as fast as it goes."""
    target.keys["wrong"] = target.keys["attacker"][:-1] + "_"
    statuses = []
    while target.goes_on:
        answers = target.many(50, lambda _: target.post("/v1/generate", {"prompt": "a"}, "wrong"))
        statuses += [getattr(answer, "status_code", 0) for answer in answers]
    yield none_of("answers but 401 and 429", sum(status not in (401, 429) for status in statuses), len(statuses))


def typed(answers: list[object], what: str = "answers that are no answer and no typed error") -> Row:
    """Make the row of rude answers, which shows the first ones."""
    rude = [answer for answer in answers if is_rude(answer)]
    shown = "; ".join(sorted({f"{getattr(one, 'status_code', type(one).__name__)} {_text(one)}" for one in rude})[:2])
    return Row(
        what, "0", f"{len(rude)} of {len(answers)}" + (f": {shown}" if shown else ""), bool(answers) and not rude
    )


def _text(answer: object) -> str:
    return str(getattr(answer, "text", answer))[:80]


def is_rude(answer: object) -> bool:
    """Say whether an answer is neither right nor a typed error of the service."""
    status = getattr(answer, "status_code", 0)
    if status == 200:
        return False
    try:
        error = answer.json()["error"]  # type: ignore[attr-defined]
        return status in (0, 500, 502) or not (error.get("code") or error.get("type"))  # Anthropic's has no code
    except (AttributeError, ValueError, KeyError, TypeError):
        return True
