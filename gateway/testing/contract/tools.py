"""The rules of an engine whose model calls tools."""

import json
from collections.abc import Sequence

from gateway.engine import (
    Capability,
    Chat,
    Delta,
    Engine,
    Finished,
    FinishReason,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolDelta,
    ToolResult,
    Usage,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect

# Arguments of few tokens, whatever the model likes to write.
_CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
_WEATHER = Tool("get_weather", "Tell the weather of a city.", _CITY, strict=True)
_TIME = Tool("get_time", "Tell the time in a city.", _CITY, strict=True)
_TOOLS = (_WEATHER, _TIME)
_MOST = 300


class ToolRules(Subject):
    """Calls are made where they must be, not where they must not, and each is told whole."""

    async def test_a_tool_that_must_be_called_is_called(self, engine: Engine) -> None:
        """Kills: a call of another tool, or none, or one that ends as an answer would."""
        for tool in _TOOLS:
            calls, last = await self._calls(engine, tool_choice=tool.name)
            names = {call.name for call in calls}
            expect(names == {tool.name}, f"The tool {tool.name} had to be called; called are {names or 'none'}.", Chat)
            _expect_reason(last, calls)

    async def test_one_of_the_tools_is_called_where_one_must_be(self, engine: Engine) -> None:
        """Kills: an answer in words where a call was required."""
        calls, last = await self._calls(engine, tool_choice="required")
        names = {call.name for call in calls}
        expect(calls and names <= {tool.name for tool in _TOOLS}, f"A tool had to be called; called are {names}.", Chat)
        _expect_reason(last, calls)

    async def test_no_tool_is_called_where_none_may_be(self, engine: Engine) -> None:
        """Kills: a call though the choice is `none`."""
        calls, last = await self._calls(engine, tool_choice="none")
        expect(not calls, f"No tool was to be called; called is {calls[:1]!r:.60}.", Chat)
        _expect_reason(last, calls)

    async def test_only_tools_that_are_allowed_are_called(self, engine: Engine) -> None:
        """Kills: a choice among all tools, where only some may be called."""
        calls, _ = await self._calls(engine, tool_choice="required", allowed_tools=(_TIME.name,))
        names = {call.name for call in calls}
        expect(names == {_TIME.name}, f"Only {_TIME.name} was allowed; called are {names or 'none'}.", Chat)

    async def test_calls_come_alone_where_that_is_asked(self, engine: Engine) -> None:
        """Kills: a second call in an answer that may have one."""
        self.require(engine, Capability.PARALLEL_TOOL_CALLS)
        calls, last = await self._calls(engine, tool_choice="required", parallel_tool_calls=False)
        expect(len(calls) == 1, f"One call was asked for; the answer has {len(calls)}.", Chat)
        _expect_reason(last, calls)

    async def test_the_arguments_of_a_strict_tool_keep_to_its_schema(self, engine: Engine) -> None:
        """Kills: arguments that are JSON, and not what the tool takes."""
        calls, _ = await self._calls(engine, tool_choice="required")
        for call in calls:
            kept = json.loads(call.arguments) in ({"city": "Paris"}, {"city": "Rome"})
            expect(kept, f"The arguments {call.arguments!r:.80} are not what the schema accepts.", Tool)

    async def test_the_tokens_of_calls_are_told_and_counted(self, engine: Engine) -> None:
        """Kills: an answer that costs less than it says, since calls are free."""
        _, deltas, last = await self._answer(engine, tool_choice="required")
        told, counted = sum(delta.tokens for delta in deltas), last.usage.completion_tokens
        expect(told == counted > 0, f"The deltas carry {told} tokens and `Finished` counts {counted}.", Usage)

    async def test_a_call_that_is_cut_says_so(self, engine: Engine) -> None:
        """Kills: half of a call that ends as if it were whole."""
        _, deltas, last = await self._answer(engine, tool_choice="required", most=2)
        pieces = [delta.arguments for delta in deltas if isinstance(delta, ToolDelta)]
        whole = bool(pieces) and _is_object("".join(pieces))
        expect(
            whole or last.reason is FinishReason.LENGTH,
            f"The arguments are cut to {''.join(pieces)!r:.60}, and the answer ends as {last.reason}, not length.",
            FinishReason,
        )

    async def test_the_result_of_a_tool_is_read(self, engine: Engine) -> None:
        """Kills: a conversation that loses its calls and results."""
        self.require(engine, Capability.CHAT, Capability.TOOLS, Capability.TOKEN_COUNT)
        asked = (Message("user", (Text(self.text),)),)
        call = Message("assistant", (ToolCall("call-1", _WEATHER.name, '{"city": "Paris"}'),))
        result = Message("tool", (ToolResult("call-1", "It is sunny."),))
        name = self.card(engine).name
        counts = [
            await engine.count_tokens(name, Chat(messages, tools=(_WEATHER,)))
            for messages in (asked, (*asked, call), (*asked, call, result))
        ]
        expect(counts == sorted(set(counts)), f"Without a call, with it, with its result: {counts} tokens.", ToolResult)

    async def _answer(
        self,
        engine: Engine,
        *,
        tool_choice: str,
        allowed_tools: tuple[str, ...] = (),
        parallel_tool_calls: bool = True,
        most: int = _MOST,
    ) -> tuple[object, list[Delta | ToolDelta], Finished]:
        """Ask a question that both tools answer."""
        self.require(engine, Capability.CHAT, Capability.TOOLS)
        asked = f"{self.text} Call {_WEATHER.name} and {_TIME.name} for Paris."
        chat = Chat(
            (Message("user", (Text(asked),)),),
            _TOOLS,
            tool_choice,
            allowed_tools=allowed_tools,
            parallel_tool_calls=parallel_tool_calls,
        )
        return await self.sentence(engine, self.request(engine, chat, max_tokens=most, ignore_eos=False))

    async def _calls(
        self,
        engine: Engine,
        *,
        tool_choice: str,
        allowed_tools: tuple[str, ...] = (),
        parallel_tool_calls: bool = True,
    ) -> tuple[list[ToolCall], Finished]:
        """Return the calls that came to their end, each told as it has to be."""
        _, deltas, last = await self._answer(
            engine, tool_choice=tool_choice, allowed_tools=allowed_tools, parallel_tool_calls=parallel_tool_calls
        )
        calls = _read_calls([delta for delta in deltas if isinstance(delta, ToolDelta)])
        whole = calls[:-1] if last.reason is FinishReason.LENGTH else calls
        for call in whole:
            expect(_is_object(call.arguments), f"The arguments are {call.arguments!r:.80}, no JSON object.", ToolDelta)
        return calls, last


def _read_calls(pieces: Sequence[ToolDelta]) -> list[ToolCall]:
    """Put calls together; the id and the name of each come with its first piece, and calls one after another."""
    calls: list[ToolCall] = []
    for piece in pieces:
        if piece.index == len(calls):
            expect(piece.id and piece.name, f"The first piece of a call, {piece!r:.80}, lacks id or name.", ToolDelta)
            expect(piece.id not in {call.id for call in calls}, f"Two calls have the id {piece.id!r}.", ToolDelta)
            calls.append(ToolCall(piece.id, piece.name, piece.arguments))
            continue
        expect(
            piece.index == len(calls) - 1,
            f"A piece of call {piece.index} comes while call {len(calls) - 1} is told: they come one after another.",
            ToolDelta,
        )
        again = piece.id or piece.name
        expect(not again, f"A later piece of a call says {again!r} again: id and name come once.", ToolDelta)
        last = calls[-1]
        calls[-1] = ToolCall(last.id, last.name, last.arguments + piece.arguments)
    return calls


def _expect_reason(last: Finished, calls: Sequence[ToolCall]) -> None:
    """Expect that an answer ends as `tool_calls` where it calls, and only there; one that was cut says so."""
    if last.reason is FinishReason.LENGTH:
        return
    expect(
        (last.reason is FinishReason.TOOL_CALLS) is bool(calls),
        f"An answer with {len(calls)} calls ends as {last.reason}.",
        FinishReason,
    )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
