"""Errors: their statuses, and a shape that clients can read."""

import msgspec

from gateway.cli.conformance.peer import CHAT, Peer, PeerReply
from gateway.cli.conformance.rule import Absent, expect, rule
from gateway.cli.conformance.rules.answers import SAID

_WORDS = 400_000


def _is_error(reply: PeerReply, *statuses: int) -> str:
    """Tell the status of an error; raise `RuleBroken` where its status or its shape is another."""
    expect(reply.status in statuses, f"answered {reply}")
    body = reply.body
    error = (body.get("error") if isinstance(body, dict) else None) or {}
    expect(isinstance(error, dict) and isinstance(error.get("message"), str), f"has no error.message: {reply}")
    expect("type" in error and "code" in error, f"its error has no type and code: {reply}")
    return str(reply.status)


@rule("errors")
async def an_unknown_model_is_404(peer: Peer) -> str:
    """A model that does not exist is a 404 with an error that has message, type and code."""
    return _is_error(await peer.chat(SAID, model="no/such-model", max_tokens=2), 404)


@rule("errors")
async def an_error_before_a_stream_has_a_status(peer: Peer) -> str:
    """A streamed request that is refused has a status and an error, and is no stream."""
    return _is_error(await peer.chat(SAID, model="no/such-model", stream=True, max_tokens=2), 404)


@rule("errors")
async def what_is_no_json_is_400(peer: Peer) -> str:
    """A body that is no JSON is a 400."""
    return _is_error(await peer.send("POST", CHAT, b'{"model": '), 400)


@rule("errors")
async def what_lacks_its_messages_is_refused(peer: Peer) -> str:
    """A body without messages, or with some that are none, is a 400 or 422."""
    for wrong in (
        {},
        {"messages": "hello"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "nobody", "content": "x"}]},
    ):
        _is_error(await peer.post(CHAT, max_tokens=2, **wrong), 400, 422)
    return "4 bodies"


@rule("errors", "should")
async def no_messages_are_refused(peer: Peer) -> str:
    """An empty list of messages is a 400 or 422."""
    return _is_error(await peer.post(CHAT, messages=[], max_tokens=2), 400, 422)


@rule("errors")
async def a_prompt_that_is_too_long_is_refused(peer: Peer) -> str:
    """A prompt longer than any context is a 400 or 413, and the next request is served."""
    return await _after(peer, await peer.chat("word " * _WORDS, max_tokens=2), 400, 413)


@rule("errors")
async def deep_nesting_is_refused(peer: Peer) -> str:
    """A body nested a hundred thousand deep is refused, and the next request is served."""
    deep = b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return await _after(peer, await peer.send("POST", CHAT, deep), 400, 413, 422)


async def _after(peer: Peer, reply: PeerReply, *statuses: int) -> str:
    expect(reply.status in statuses, f"answered {reply}")
    then = await peer.chat(SAID, max_tokens=2)
    expect(then.ok, f"the next request got {then}")
    return str(reply.status)


@rule("errors", "should")
async def wrong_paths_and_methods_are_said(peer: Peer) -> None:
    """An unknown path is a 404, a wrong method a 405."""
    path, method = await peer.get("no/such/path"), await peer.send("DELETE", CHAT, b"")
    expect(path.status == 404, f"the path got {path.status}")
    expect(method.status == 405, f"the method got {method.status}")


@rule("errors")
async def a_wrong_key_is_401(peer: Peer) -> str:
    """Where keys are needed, a wrong one is a 401 with an error."""
    if not peer.has_key:
        raise Absent("a key (--api-key)")
    body = {"model": peer.model, "messages": [{"role": "user", "content": SAID}], "max_tokens": 2}
    sent = {"authorization": "Bearer llmg-no-such-key"}
    reply = await peer.send("POST", CHAT, msgspec.json.encode(body), sent)
    if reply.ok:
        raise Absent("a server that needs a key")
    return _is_error(reply, 401)
