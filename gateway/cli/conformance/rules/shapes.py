"""Answers of a given shape: valid when they are finished, or refused."""

import json

from gateway.cli.conformance.peer import Peer, PeerReply
from gateway.cli.conformance.rule import RuleBroken, expect, rule
from gateway.cli.conformance.rules.answers import choice, content, honoured

_PERSON = "Invent a person: a name and an age."
_DRAWN = {"temperature": 1, "max_tokens": 200}
_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 24},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "mood": {"enum": ["glad", "sad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
_TRIES = 3


def _format(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}


def _finished(reply: PeerReply) -> object:
    """Read the JSON of a finished answer; `None` where a limit cut it."""
    if choice(reply)["finish_reason"] == "length":
        return None
    try:
        return json.loads(content(reply))
    except ValueError as error:
        raise RuleBroken(f"finished, and is no JSON: {content(reply)[:80]!r}") from error


def _is_person(found: object) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == {"name", "age", "mood"}
        and isinstance(found["name"], str)
        and len(found["name"]) <= 24
        and type(found["age"]) is int
        and 1 <= found["age"] <= 99
        and found["mood"] in ("glad", "sad")
    )


@rule("shapes")
async def a_json_object_is_one(peer: Peer) -> str:
    """An answer with `json_object` is an object when it is finished."""
    asked = f"{_PERSON} Answer in JSON."
    finished = 0
    for _ in range(_TRIES):
        reply = await peer.chat(asked, response_format={"type": "json_object"}, **_DRAWN)
        found = _finished(honoured(reply, "json_object"))
        expect(found is None or isinstance(found, dict), f"is {found!r}")
        finished += found is not None
    return f"{finished} of {_TRIES} finished"


@rule("shapes")
async def a_schema_is_kept(peer: Peer) -> str:
    """An answer with a strict `json_schema` is valid when it is finished."""
    finished = 0
    for _ in range(_TRIES):
        reply = honoured(await peer.chat(_PERSON, response_format=_format(_SCHEMA), **_DRAWN), "json_schema")
        found = _finished(reply)
        expect(found is None or _is_person(found), f"is {found!r}")
        finished += found is not None
    return f"{finished} of {_TRIES} finished"


@rule("shapes")
async def a_schema_is_kept_in_a_stream(peer: Peer) -> None:
    """A streamed answer with a strict `json_schema` is valid when it is finished."""
    honoured(await peer.chat(_PERSON, response_format=_format(_SCHEMA), max_tokens=2), "json_schema")
    frames = await peer.stream(_PERSON, response_format=_format(_SCHEMA), **_DRAWN)
    if frames.reason() == "stop":
        try:
            expect(_is_person(json.loads(frames.joined())), f"is {frames.joined()[:80]!r}")
        except ValueError as error:
            raise RuleBroken(f"finished, and is no JSON: {frames.joined()[:80]!r}") from error


@rule("shapes")
async def a_schema_that_is_none_is_refused(peer: Peer) -> str:
    """A schema that is none is a 4xx, and never a free answer."""
    reply = await peer.chat(_PERSON, response_format=_format({"type": "banana"}), max_tokens=8)
    expect(reply.refused, f"answered {reply}")
    return str(reply.status)
