"""Rules about optional capabilities: tools, images, embeddings."""

import json

import pytest

from gateway.engine import (
    Capability,
    Chat,
    Embeddings,
    EmbedRequest,
    Engine,
    FinishReason,
    Image,
    Message,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolDelta,
    ToolResult,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect

_TOOL = Tool("get_weather", "Tell the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
# The smallest PNG: one white pixel.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415478da63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


class FeatureRules(Subject):
    """Each optional capability on the card works."""

    async def test_a_tool_that_must_be_called_is_called(self, engine: Engine) -> None:
        """Kills: a call whose name never comes, or that ends as an answer would."""
        self.require(engine, Capability.CHAT, Capability.TOOLS)
        request = self.request(engine, _chat(Text(self.text), tools=(_TOOL,), tool_choice=_TOOL.name), max_tokens=200)
        _, deltas, last = await self.sentence(engine, request)
        calls = [delta for delta in deltas if isinstance(delta, ToolDelta)]
        expect(calls, f"The tool {_TOOL.name} had to be called and no `ToolDelta` came.", Chat)
        expect(
            calls[0].id and calls[0].name == _TOOL.name,
            f"The first piece of the call has the id {calls[0].id!r} and the name {calls[0].name!r}.",
            ToolDelta,
        )
        arguments = "".join(call.arguments for call in calls if call.index == calls[0].index)
        expect(_is_object(arguments), f"The arguments together are {arguments!r:.80}, no JSON object.", ToolDelta)
        expect(
            last.reason is FinishReason.TOOL_CALLS,
            f"An answer that calls a tool ends as tool_calls, not {last.reason}.",
            FinishReason,
        )

    async def test_the_result_of_a_tool_is_read(self, engine: Engine) -> None:
        """Kills: a conversation that loses its calls and results."""
        self.require(engine, Capability.CHAT, Capability.TOOLS, Capability.TOKEN_COUNT)
        asked = (Message("user", (Text(self.text),)),)
        call = Message("assistant", (ToolCall("call-1", _TOOL.name, '{"city": "Paris"}'),))
        result = Message("tool", (ToolResult("call-1", "It is sunny."),))
        name = self.card(engine).name
        counts = [
            await engine.count_tokens(name, Chat(messages, tools=(_TOOL,)))
            for messages in (asked, (*asked, call), (*asked, call, result))
        ]
        expect(counts == sorted(set(counts)), f"Without a call, with it, with its result: {counts} tokens.", ToolResult)

    async def test_an_image_is_read(self, engine: Engine) -> None:
        """Kills: an image that is left out of the prompt."""
        self.require(engine, Capability.CHAT, Capability.VISION)
        without, with_image = [
            (await self.usage(engine, _chat(Text(self.text), *images))).prompt_tokens
            for images in ((), (Image(_PIXEL, "image/png"),))
        ]
        expect(with_image > without, f"A chat has {without} tokens, and {with_image} with an image.", Image)

    async def test_each_text_has_its_vector(self, engine: Engine) -> None:
        """Kills: vectors of another number, order or length."""
        cards = [card for card in self.cards(engine) if Capability.EMBEDDING in card.capabilities]
        if not cards:
            pytest.skip("no card lists embedding")
        texts = (self.text, "another text", self.text)
        made = await engine.embed(EmbedRequest(id="contract-embed", model=cards[0].name, texts=texts))
        count = len(made.vectors)
        expect(count == len(texts), f"{len(texts)} texts have {count} vectors.", Embeddings)
        first, other, again = made.vectors
        expect(first == again, "One text has two vectors.", Embeddings)
        expect(first != other, "Two texts have one vector: are they in the order of the texts?", Embeddings)
        expect(len(first) == len(other) > 0, f"The vectors have {len(first)} and {len(other)} numbers.", Embeddings)
        expect(made.prompt_tokens > 0, f"The texts have {made.prompt_tokens} tokens.", Embeddings)


def _chat(*parts: Part, tools: tuple[Tool, ...] = (), tool_choice: str = "auto") -> Chat:
    return Chat((Message("user", parts),), tools=tools, tool_choice=tool_choice)
