"""Tools: calls that can be made, or a refusal."""

import json
from typing import Any

from gateway.cli.conformance.peer import CHAT, Peer, PeerStream
from gateway.cli.conformance.rule import Absent, RuleBroken, expect, rule
from gateway.cli.conformance.rules.answers import choice, honoured

_ASKED = "What is the weather in Oslo?"
_DRAWN = {"temperature": 0, "max_tokens": 200}


def _tool(name: str) -> dict[str, Any]:
    city = {"type": "string", "maxLength": 20}
    schema = {"type": "object", "properties": {"city": city}, "required": ["city"], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": f"Get the {name}.", "parameters": schema}}


_TOOLS = [_tool("weather"), _tool("population")]


def _check(calls: list[dict[str, Any]], *names: str) -> str:
    """Tell the calls; raise `RuleBroken` where one cannot be made."""
    expect(calls, "there is no call")
    expect(len({call.get("id") for call in calls}) == len(calls), "two calls have one id")
    for call in calls:
        made = call["function"]
        expect(made["name"] in names, f"calls {made['name']!r}")
        try:
            arguments = json.loads(made["arguments"])
        except ValueError as error:
            raise RuleBroken(f"the arguments are no JSON: {made['arguments'][:80]!r}") from error
        expect(isinstance(arguments.get("city"), str) and len(arguments) == 1, f"the arguments are {arguments}")
    return ", ".join(f"{call['function']['name']}({call['function']['arguments']})" for call in calls)[:80]


def _joined(frames: PeerStream) -> list[dict[str, Any]]:
    """Join the calls of a stream, whose arguments come in pieces."""
    calls: dict[int, dict[str, Any]] = {}
    for each in frames.choices():
        for delta in each.get("delta", {}).get("tool_calls") or ():
            call = calls.setdefault(delta["index"], {"id": None, "function": {"name": "", "arguments": ""}})
            call["id"] = delta.get("id") or call["id"]
            for field, text in (delta.get("function") or {}).items():
                call["function"][field] += text or ""
    return [calls[index] for index in sorted(calls)]


@rule("tools")
async def a_required_call_is_made(peer: Peer) -> str:
    """With `tool_choice: required` an answer calls a tool, with arguments of its schema."""
    reply = honoured(await peer.chat(_ASKED, tools=_TOOLS, tool_choice="required", **_DRAWN), "tools")
    if choice(reply)["finish_reason"] == "length":
        raise Absent("an answer within 200 tokens")
    expect(choice(reply)["finish_reason"] == "tool_calls", f"its finish_reason is {choice(reply)['finish_reason']!r}")
    return _check(choice(reply)["message"].get("tool_calls") or [], "weather", "population")


@rule("tools")
async def a_named_call_is_made(peer: Peer) -> str:
    """With a named `tool_choice` an answer calls that tool."""
    named = {"type": "function", "function": {"name": "population"}}
    reply = honoured(await peer.chat(_ASKED, tools=_TOOLS, tool_choice=named, **_DRAWN), "tools")
    return _check(choice(reply)["message"].get("tool_calls") or [], "population")


@rule("tools")
async def a_streamed_call_is_whole(peer: Peer) -> str:
    """A call that is streamed in pieces is the one that a whole answer has."""
    asked = {"tools": _TOOLS, "tool_choice": "required"} | _DRAWN
    reply = honoured(await peer.chat(_ASKED, **asked), "tools")
    calls = _joined(await peer.stream(_ASKED, **asked))
    told = _check(calls, "weather", "population")
    whole = [call["function"] for call in choice(reply)["message"].get("tool_calls") or []]
    expect([call["function"] for call in calls] == whole, f"streamed {told}, whole {whole}")
    return told


@rule("tools")
async def no_call_is_made_where_none_is_wanted(peer: Peer) -> None:
    """With `tool_choice: none` an answer calls nothing."""
    reply = honoured(await peer.chat(_ASKED, tools=_TOOLS, tool_choice="none", max_tokens=24), "tools")
    expect(not choice(reply)["message"].get("tool_calls"), "a tool is called")


@rule("tools")
async def a_result_is_taken(peer: Peer) -> None:
    """A conversation with a call and its result goes on."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    said = [
        {"role": "user", "content": _ASKED},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain, 7 degrees."},
    ]
    reply = honoured(await peer.post(CHAT, messages=said, tools=_TOOLS, tool_choice="none", max_tokens=16), "tools")
    expect(choice(reply)["message"].get("content"), "there is no text")
