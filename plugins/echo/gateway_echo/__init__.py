"""The smallest engine: it says the prompt again, a word at a time. Read it to write your own."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from gateway.engine import (
    Capability,
    Delta,
    Engine,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    Plugin,
    Prompt,
    Started,
    StopStrings,
    ToolDelta,
    Usage,
    answer_limit,
)
from gateway_echo.speech import read, speak

# An echo gives its next word all the probability: no temperature, cut-off or seed can change what it says.
_CAPABILITIES = frozenset(
    {
        Capability.CHAT,
        Capability.COMPLETION,
        Capability.TOOLS,
        Capability.PARALLEL_TOOL_CALLS,
        Capability.REASONING,
        Capability.REASONING_EFFORT,
        Capability.REASONING_BUDGET,
        Capability.TOKEN_COUNT,
        Capability.MAX_TOKENS,
        Capability.MAX_LENGTH,
        Capability.MIN_TOKENS,
        Capability.TEMPERATURE,
        Capability.TOP_P,
        Capability.TOP_K,
        Capability.MIN_P,
        Capability.SEED,
        Capability.STOP,
        Capability.INCLUDE_STOP_STR_IN_OUTPUT,
        Capability.IGNORE_EOS,
        Capability.CHOICE,
        Capability.JSON_OBJECT,
        Capability.JSON_SCHEMA,
    }
)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[engines.NAME.settings]`: the model's name, the seconds a word takes, and its context in words."""

    model: str = "echo"
    delay: Annotated[float, Meta(ge=0)] = 0.0
    context_window: Annotated[int, Meta(ge=1)] = 4096
    places: Annotated[int, Meta(ge=1)] = 8


class EchoEngine(Engine):
    """Says a raw prompt, or the last message of a chat, again; a token is a word with the space behind it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._card = ModelCard(
            name=settings.model.rpartition("/")[2],
            aliases=(settings.model,),
            context_window=settings.context_window,
            capabilities=_CAPABILITIES,
            places=settings.places,
            cache_tokens=settings.places * settings.context_window,
            fingerprint="echo-2",
            tools="echo",
            owner="llm-gateway",
        )
        self._places = asyncio.Semaphore(settings.places)

    def models(self) -> Sequence[ModelCard]:
        """Say the one model."""
        return (self._card,)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Say the prompt again until it ends, a stop string is met or the tokens are used up."""
        words, prompt_tokens = read(request.prompt)
        speech = speak(words, request)
        limit = answer_limit(request.sampling, prompt_tokens, self._card.under(request.defaults))
        queued = asyncio.get_running_loop().time()
        async with self._places:
            yield Started(prompt_tokens, queue_seconds=asyncio.get_running_loop().time() - queued)
            shown = bool(request.sampling.include_stop_str_in_output)
            stops = StopStrings(request.sampling.stop or (), shown=shown)
            told = thought = 0
            end = FinishReason.STOP
            for event in itertools.islice(speech, limit):
                await asyncio.sleep(self._settings.delay)
                told += 1
                if isinstance(event, ToolDelta):
                    end = FinishReason.TOOL_CALLS
                    yield event
                elif event.reasoning:
                    thought += 1
                    yield event
                else:
                    word = event.text
                    yield Delta(stops.feed(word) if told > (request.sampling.min_tokens or 0) else word)
                if stops.found is not None:
                    break
            if held := stops.flush():
                yield Delta(held, tokens=0)
            ended = stops.found is not None or told < limit
            used = Usage(prompt_tokens, told, reasoning_tokens=thought)
            yield Finished(end if ended else FinishReason.LENGTH, used, stops.found)

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the words."""
        del model
        return read(prompt)[1]


plugin = Plugin(Settings, EchoEngine)
