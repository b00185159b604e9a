"""Parameters: honoured, or refused by name."""

import math
from typing import Any

from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rule import Absent, RuleBroken, expect, rule
from gateway.cli.conformance.rules.answers import PLAIN, SAID, choice, content, honoured

_TALE = "Tell a short story about a lighthouse and a storm."
_LONG = {"temperature": 0, "max_tokens": 48}
_WRONG: tuple[dict[str, Any], ...] = (
    {"temperature": -1},
    {"temperature": "hot"},
    {"top_p": 1.5},
    {"top_p": -0.1},
    {"max_tokens": -1},
    {"max_tokens": "many"},
    {"n": 0},
    {"presence_penalty": 3},
    {"frequency_penalty": "x"},
    {"logit_bias": {"one": 1}},
    {"logit_bias": {"1": 1000}},
    {"stop": {"a": 1}},
    {"stream": "perhaps"},
    {"top_logprobs": 3},
    {"logprobs": True, "top_logprobs": 1_000},
    {"response_format": {"type": "poem"}},
    {"tool_choice": "sometimes"},
)


def _word_inside(text: str) -> str:
    """Find a word of a text that is neither in its beginning nor at its end."""
    words = [word for word in text.split()[3:-1] if len(word) > 2]
    for word in words:
        before = text.partition(word)[0]
        if before.strip():
            return word
    raise Absent(f"an answer with several words: {text[:80]!r}")


@rule("parameters")
async def a_stop_string_ends_an_answer(peer: Peer) -> str:
    """A stop string ends an answer before it, with `stop`, whole and streamed."""
    free = content(await peer.chat(_TALE, **_LONG))
    stop = _word_inside(free)
    wanted = free.partition(stop)[0]
    reply = honoured(await peer.chat(_TALE, stop=[stop], **_LONG), "stop")
    expect(content(reply) == wanted, f"{content(reply)[-60:]!r} before {stop!r}, not {wanted[-60:]!r}")
    expect(choice(reply)["finish_reason"] == "stop", f"its finish_reason is {choice(reply)['finish_reason']!r}")
    frames = await peer.stream(_TALE, stop=stop, **_LONG)
    expect(frames.joined() == wanted, f"streamed {frames.joined()[-60:]!r} before {stop!r}")
    expect(frames.reason() == "stop", f"streamed, its finish_reason is {frames.reason()!r}")
    return repr(stop)


@rule("parameters")
async def log_probabilities_are_consistent(peer: Peer) -> str:
    """`logprobs` name the tokens of the answer, at most 0 each, and the likeliest beside it."""
    reply = honoured(await peer.chat(SAID, logprobs=True, top_logprobs=3, **PLAIN), "logprobs")
    entries: list[dict[str, Any]] = (choice(reply).get("logprobs") or {}).get("content") or []
    expect(entries, "there are none")
    for entry in entries:
        expect(entry["logprob"] <= 0, f"{entry['token']!r} has {entry['logprob']}")
        others = [other["logprob"] for other in entry["top_logprobs"]]
        expect(len(others) == 3, f"{entry['token']!r} has {len(others)} alternatives, not 3")
        expect(others == sorted(others, reverse=True), f"the alternatives of {entry['token']!r} are in no order")
        expect(sum(map(math.exp, others)) <= 1.001, f"the alternatives of {entry['token']!r} are likelier than 1")
        expect(math.isclose(entry["logprob"], others[0], abs_tol=1e-3), f"{entry['token']!r} was not the likeliest")
    joined = b"".join(bytes(entry["bytes"] or entry["token"].encode()) for entry in entries).decode(errors="replace")
    text = content(reply)
    # The token that ends an answer may be told, and is no part of its text.
    expect(joined.startswith(text.rstrip()), f"the tokens make {joined[:60]!r}, the answer is {text[:60]!r}")
    return f"{len(entries)} tokens"


@rule("parameters")
async def a_bias_forbids_a_token(peer: Peer) -> None:
    """A `logit_bias` of -100 keeps a token out of an answer."""
    asked = {"temperature": 0, "max_tokens": 1}
    first = await peer.chat(SAID, logprobs=True, return_tokens_as_token_ids=True, **asked)
    told = (choice(first).get("logprobs") or {}).get("content") if first.ok else None
    name, _, token = str(told[0]["token"] if told else "").partition(":")
    if name != "token_id":
        raise Absent("a way to learn a token's id (return_tokens_as_token_ids)")
    other = honoured(await peer.chat(SAID, logit_bias={token: -100}, **asked), "logit_bias")
    expect(content(other) != content(first), f"{content(first)!r} came all the same")


@rule("parameters")
async def wrong_values_are_refused(peer: Peer) -> str:
    """A value of a wrong type or out of bounds is a 4xx, never an answer and never a 5xx."""
    taken = []
    for wrong in _WRONG:
        reply = await peer.chat(SAID, **({"max_tokens": 2} | wrong))
        if not reply.refused:
            taken.append(f"{wrong} got {reply.status}")
    expect(not taken, "; ".join(taken))
    return f"{len(_WRONG)} values"


@rule("parameters", "should")
async def an_unknown_parameter_is_named(peer: Peer) -> str:
    """A parameter that the server does not know is refused by name, or said to have been ignored."""
    name = "no_such_parameter"
    reply = await peer.chat(SAID, **{name: 1}, max_tokens=2)
    if reply.refused:
        expect(name in str(reply.body), f"the refusal does not name it: {reply}")
        return "refused"
    header = next((key for key, value in reply.headers.items() if name in value), None)
    if header is None:
        raise RuleBroken("it is dropped without a word")
    return f"named in {header}"
