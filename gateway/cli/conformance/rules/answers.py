"""Whole answers: their fields, their limits, and their sums."""

from typing import Any

from gateway.cli.conformance.peer import COMPLETIONS, MODELS, Peer, PeerReply
from gateway.cli.conformance.rule import Absent, Refused, RuleBroken, expect, rule

SAID = "Name three colours of the rainbow."
PLAIN = {"temperature": 0, "max_tokens": 24}
REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}


def choice(reply: PeerReply, index: int = 0) -> dict[str, Any]:
    """Take a choice of a whole answer; raise `RuleBroken` where there is none."""
    expect(reply.ok, f"answered {reply}")
    try:
        return next(choice for choice in reply.body["choices"] if choice["index"] == index)
    except (KeyError, TypeError, StopIteration) as error:
        raise RuleBroken(f"has no choice with the index {index}: {reply}") from error


def content(reply: PeerReply, index: int = 0) -> str:
    """Take the text of a choice of a chat answer."""
    return str(choice(reply, index)["message"].get("content") or "")


def honoured(reply: PeerReply, what: str) -> PeerReply:
    """Pass on an answer that is one; raise `Refused` where the server says that it does not do `what`."""
    if reply.refused:
        raise Refused(f"{what}: {reply}")
    expect(reply.ok, f"answered {what} with {reply}")
    return reply


@rule("models", "should")
async def the_model_is_listed(peer: Peer) -> None:
    """`/v1/models` lists the model, and `/v1/models/{id}` shows it."""
    listed = await peer.get(MODELS)
    expect(listed.ok and listed.body.get("object") == "list", f"the list is {listed}")
    names = [model["id"] for model in listed.body["data"]]
    expect(peer.model in names, f"{peer.model} is not among {names[:8]}")
    shown = await peer.get(f"{MODELS}/{peer.model}")
    expect(shown.ok and shown.body.get("id") == peer.model, f"/models/{peer.model} is {shown}")


@rule("answers")
async def a_chat_answer_has_its_fields(peer: Peer) -> None:
    """A chat answer has id, object, created, model, choices with message and finish_reason, and usage."""
    reply = await peer.chat(SAID, **PLAIN)
    only = choice(reply)
    missing = {"id", "object", "created", "model", "choices", "usage"} - reply.body.keys()
    expect(not missing, f"lacks {sorted(missing)}")
    expect(reply.body["object"] == "chat.completion", f"its object is {reply.body['object']!r}")
    expect(isinstance(reply.body["created"], int), f"its created is {reply.body['created']!r}")
    expect(only["message"].get("role") == "assistant", f"its message is {only['message']}")
    expect(only.get("finish_reason") in REASONS, f"its finish_reason is {only.get('finish_reason')!r}")


@rule("answers")
async def a_completion_has_its_fields(peer: Peer) -> None:
    """A completion has id, object, created, model, choices with text and finish_reason, and usage."""
    reply = await peer.complete(SAID, **PLAIN)
    if reply.status in (404, 405, 501):
        raise Absent(f"no /{COMPLETIONS}: {reply.status}")
    only = choice(reply)
    expect(reply.body.get("object") == "text_completion", f"its object is {reply.body.get('object')!r}")
    expect(isinstance(only.get("text"), str), f"its choice is {only}")
    expect(only.get("finish_reason") in REASONS, f"its finish_reason is {only.get('finish_reason')!r}")
    expect(reply.body.get("usage"), "has no usage")


@rule("answers")
async def usage_adds_up(peer: Peer) -> str:
    """`usage` counts tokens that add up, and no more than were allowed."""
    usage = (await peer.chat(SAID, **PLAIN)).body["usage"]
    asked, made, total = (usage[f"{name}_tokens"] for name in ("prompt", "completion", "total"))
    expect(asked > 0 and made > 0, f"counts {usage}")
    expect(asked + made == total, f"{asked} + {made} is not {total}")
    expect(made <= PLAIN["max_tokens"], f"counts {made} tokens where {PLAIN['max_tokens']} were allowed")
    return f"{asked} + {made} = {total}"


@rule("answers")
async def the_limit_ends_an_answer(peer: Peer) -> str:
    """An answer that `max_tokens` ends says `length`, and counts so many tokens."""
    return await _limited(peer, "max_tokens")


@rule("answers")
async def a_limit_of_either_name_holds(peer: Peer) -> str:
    """`max_completion_tokens` limits an answer as `max_tokens` does."""
    return await _limited(peer, "max_completion_tokens")


async def _limited(peer: Peer, name: str) -> str:
    free = honoured(await peer.chat(SAID, **PLAIN), "max_tokens").body["usage"]["completion_tokens"]
    half = free // 2
    if not half:
        raise Absent("an answer of two tokens")
    reply = honoured(await peer.chat(SAID, temperature=0, **{name: half}), name)
    made, reason = reply.body["usage"]["completion_tokens"], choice(reply)["finish_reason"]
    expect(made == half, f"counts {made} tokens, not {half}")
    expect(reason == "length", f"its finish_reason is {reason!r}")
    return f"{half} of {free} tokens"


@rule("answers", "should")
async def the_likeliest_answer_repeats(peer: Peer) -> None:
    """At temperature 0 the same request gets the same answer."""
    first, second = [content(await peer.chat(SAID, **PLAIN)) for _ in range(2)]
    expect(first == second, f"{first[:60]!r}, then {second[:60]!r}")


@rule("answers", "should")
async def a_seed_repeats(peer: Peer) -> None:
    """With one seed a drawn answer repeats; other seeds draw other answers."""
    drawn = {"temperature": 1, "max_tokens": 24}
    replies = [await peer.chat(SAID, seed=seed, **drawn) for seed in (7, 7, 8, 9, 10)]
    honoured(replies[0], "a seed")
    first, again, *others = map(content, replies)
    expect(first == again, f"one seed drew {first[:60]!r}, then {again[:60]!r}")
    expect(set(others) != {first}, "four seeds drew the same answer")


@rule("answers")
async def several_answers_have_their_indexes(peer: Peer) -> None:
    """`n` answers come as choices with the indexes 0 to n - 1."""
    reply = honoured(await peer.chat(SAID, n=3, temperature=1, max_tokens=8), "n = 3")
    indexes = sorted(each["index"] for each in reply.body["choices"])
    expect(indexes == [0, 1, 2], f"the indexes are {indexes}")
