"""An engine that follows a script: correct answers, and faults that the gateway must survive."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Self

from msgspec import Meta, Struct

from gateway.engine import (
    Capability,
    Chat,
    Delta,
    Engine,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Health,
    InvalidRequest,
    LoadFailed,
    ModelCard,
    Plugin,
    Prompt,
    ScoreRequest,
    Started,
    Status,
    StopStrings,
    TextScores,
    TokenLogprob,
    Tokens,
    Unavailable,
    Usage,
    answer_limit,
    compute_mark,
)
from gateway.testing.judge import judge
from gateway.testing.keeping import check_constraint, check_kept
from gateway.testing.script import Cut, Script, ScriptSeconds, find_script, strike
from gateway.testing.words import count_words, last_text, words_of

_STEP_SECONDS = 0.05
_CAPABILITIES = frozenset(
    {
        Capability.CHAT,
        Capability.COMPLETION,
        Capability.TOKEN_COUNT,
        Capability.TOKENIZE,
        Capability.MAX_TOKENS,
        Capability.MAX_LENGTH,
        Capability.TEMPERATURE,
        Capability.SEED,
        Capability.STOP,
        Capability.INCLUDE_STOP_STR_IN_OUTPUT,
        Capability.IGNORE_EOS,
        Capability.LOGPROBS,
        Capability.PROMPT_LOGPROBS,
    }
)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The engine's card, the script that it follows, and how it loads: after `load` seconds, or never.

    It says that a load takes `size` bytes. A prompt that is the JSON text `{"script": {…}}` brings its own script. A
    question about it takes the script's `prefill` seconds, and meets its fault where that comes before the answer
    begins. One question is answered after the other, and generations wait until there is none, as in an engine that
    reads all prompts on one thread.
    """

    model: str = "scripted"
    script: Script = Script()
    context_window: Annotated[int, Meta(ge=1)] = 4096
    places: Annotated[int, Meta(ge=1)] = 8
    capabilities: frozenset[Capability] = _CAPABILITIES
    load: ScriptSeconds = 0.0
    load_failure: str | None = None
    health: Health = Health.READY
    detail: str = ""
    size: Annotated[int, Meta(ge=0)] | None = None


class ScriptedEngine(Engine):
    """Follows the script. `requests` records the requests; `health` is the health it reports while entered."""

    def __init__(self, settings: Settings) -> None:
        self.requests: list[GenerateRequest] = []
        self.health = settings.health
        self._settings = settings
        self._card = ModelCard(
            name=settings.model.rpartition("/")[2],
            aliases=(settings.model,),
            context_window=settings.context_window,
            capabilities=settings.capabilities,
            places=settings.places,
            cache_tokens=settings.places * settings.context_window,
            vocabulary=256,
            fingerprint="scripted-1",
        )
        self._places = asyncio.Semaphore(settings.places)
        self._reader = asyncio.Lock()
        self._words: dict[str, int] = {}
        self._waiting = 0
        self._running = 0
        self._asked = 0  # requests that do not stand by
        self._steps = 0
        self._outside = Health.STARTING
        self._entered = False

    def models(self) -> Sequence[ModelCard]:
        """Say the one model."""
        return (self._card,)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
        """Answer as the script says."""
        self.requests.append(request)
        self._check_entered()
        check_constraint(request.constraint)
        script = (find_script(last_text(request.prompt)) or self._settings.script).asked(request.prompt)
        prompt_tokens = min(count_words(request.prompt), request.truncate or self._card.context_window)
        limit = answer_limit(request.sampling, prompt_tokens, self._card.under(request.defaults))
        asked = time.monotonic()
        async with self._reader:
            pass
        async with (
            self._place(request),
            aclosing(self._speak(request, script, Usage(prompt_tokens, limit), time.monotonic() - asked)) as events,
        ):
            with suppress(Cut):
                async for event in events:
                    yield event

    async def _speak(
        self, request: GenerateRequest, script: Script, most: Usage, queued: float
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Tell the texts until they end, a stop string is met, or as many are told as `most` allows."""
        await self._prefill(script.prefill)
        await strike(script, -1)
        scores = _scores(script, request, most.prompt_tokens)
        yield Started(most.prompt_tokens if script.knows_prompt else None, 0, queued, script.prefill, scores)
        stops = StopStrings(request.sampling.stop or (), shown=bool(request.sampling.include_stop_str_in_output))
        told = 0
        # Behind the last of its texts nothing keeps to a constraint.
        speech = script.speech(without_end=bool(request.sampling.ignore_eos) and request.constraint is None)
        for said in itertools.islice(speech, most.completion_tokens):
            await asyncio.sleep(script.delay)
            await self._stand_by(request)
            await strike(script, told)
            self._check_entered()
            told += 1
            if not isinstance(said, str):
                yield said
                continue
            yield Delta(stops.feed(said), logprobs=_logprobs(script, request, told, said))
            if stops.found is not None:
                break
        await strike(script, told)
        if held := stops.flush():
            yield Delta(held, tokens=0)
        ended = stops.found is not None or told < most.completion_tokens
        if ended and stops.found is None:
            check_kept(request.constraint, "".join(script.texts[:told]))
        end = FinishReason.TOOL_CALLS if script.calls and stops.found is None else FinishReason.STOP
        used = Usage(most.prompt_tokens, told, reasoning_tokens=min(told, len(script.thoughts)))
        yield Finished(end if ended else FinishReason.LENGTH, used, stops.found)

    async def score(self, request: ScoreRequest) -> TextScores:
        """Judge the documents, behind the script of the first."""
        await self._follow(request.documents[0])
        return judge(request, self._card.context_window)

    async def count_tokens(self, model: str, prompt: Prompt) -> int:
        """Count the words."""
        del model
        await self._follow(prompt)
        return count_words(prompt)

    async def tokenize(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """Give each word a number, in the order in which they first came."""
        del model
        await self._follow(prompt)
        return tuple(self._words.setdefault(word, len(self._words)) for word in words_of(prompt))

    async def detokenize(self, model: str, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the words."""
        del model
        words = list(self._words)
        for number in ids:
            if number >= len(words):
                raise InvalidRequest(f"there is no word {number}", param="tokens")
        return tuple(words[number] for number in ids)

    async def render(self, model: str, chat: Chat) -> str:
        """Return the texts, a line each."""
        del model
        await self._follow(chat)
        return "\n".join(message.text for message in chat.messages)

    async def status(self) -> Status:
        """Return the health that was set, and count the requests that run and wait."""
        health = self.health if self._entered else self._outside
        return Status(
            health=health,
            detail=self._settings.detail,
            running=self._running,
            waiting=self._waiting,
            steps=self._steps,
        )

    async def __aenter__(self) -> Self:
        """Load as slowly as the settings say; raise `LoadFailed` where they say so."""
        await asyncio.sleep(self._settings.load)
        if self._settings.load_failure is not None:
            self._outside = Health.FAILED
            raise LoadFailed(self._settings.load_failure)
        self._entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """End running answers at their next token."""
        self._outside = Health.UNLOADED
        self._entered = False

    async def _follow(self, prompt: Prompt) -> None:
        """Take the seconds of a question whose prompt brings a script, and let its fault strike."""
        if (script := find_script(last_text(prompt))) is not None:
            async with self._reader:
                with compute_mark():
                    await asyncio.sleep(script.prefill)
                    await strike(script, -1)

    async def _stand_by(self, request: GenerateRequest) -> None:
        """Put work aside that stands by while there is another request."""
        while request.standby is not None and self._asked:  # noqa: ASYNC110 - whatever asks tells nothing of it
            await asyncio.sleep(_STEP_SECONDS)

    async def _prefill(self, seconds: float) -> None:
        """Compute for so long, step by step."""
        ends = time.monotonic() + seconds
        while True:
            await asyncio.sleep(min(_STEP_SECONDS, max(0.0, ends - time.monotonic())))
            if time.monotonic() >= ends:
                return
            self._steps += 1

    def _check_entered(self) -> None:
        if not self._entered:
            raise Unavailable("the engine is not entered")

    @asynccontextmanager
    async def _place(self, request: GenerateRequest) -> AsyncIterator[None]:
        """Take a place; work that stands by takes none."""
        if request.standby is not None:
            yield
            return
        self._waiting += 1
        self._asked += 1
        try:
            try:
                await self._places.acquire()
            finally:
                self._waiting -= 1
            self._running += 1
            try:
                yield
            finally:
                self._running -= 1
                self._places.release()
        finally:
            self._asked -= 1


def _logprobs(script: Script, request: GenerateRequest, told: int, text: str) -> tuple[TokenLogprob, ...]:
    if request.sampling.logprobs is None:
        return ()
    return (_token(script, told, text, request.sampling.logprobs),)


def _scores(script: Script, request: GenerateRequest, count: int) -> tuple[TokenLogprob, ...] | None:
    """Return a logprob for each word of the prompt; the words of token ids are unknown."""
    ranks = request.sampling.prompt_logprobs
    if ranks is None:
        return None
    words = [""] * count if isinstance(request.prompt, Tokens) else words_of(request.prompt)[-count:]
    scored = [_token(script, number, word, ranks) for number, word in enumerate(words)]
    return (TokenLogprob(0, words[0], 0.0), *scored[1:]) if words else ()


def _token(script: Script, number: int, text: str, ranks: int) -> TokenLogprob:
    likeliest = TokenLogprob(number % 256, text, float(script.logprob))
    return TokenLogprob(likeliest.id, text, likeliest.logprob, top=(likeliest,) * ranks)


plugin = Plugin(Settings, ScriptedEngine, estimate=lambda settings: settings.size)
