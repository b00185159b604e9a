"""Settle how a request is asked, and how its answer is read: by ids, or by the chat endpoint where it has a form."""

from typing import Any, NamedTuple

from msgspec import structs

from gateway.engine import (
    Chat,
    Delta,
    EngineError,
    GenerateEvent,
    GenerateRequest,
    ModelCard,
    Started,
    ToolDelta,
    Unsupported,
    UpstreamFailed,
    answer_limit,
)
from gateway_llamacpp.answer import CompletionReader
from gateway_llamacpp.calls import CallEvents, must_call, to_held_call
from gateway_llamacpp.constraints import kind_of, to_grammar
from gateway_llamacpp.conversations import check_form, to_chat_body
from gateway_llamacpp.dialect import to_body, to_drawing
from gateway_llamacpp.prompts import PromptReader
from gateway_llamacpp.vocabulary import GgufVocabulary
from gateway_llamacpp.wishes import check_ids, cut, settle
from gateway_openai.answer import AnswerReader
from gateway_openai.frames import FrameReader


class AskedAnswer(NamedTuple):
    """A request to the server: `ids` are its prompt, and `param` names what it may refuse."""

    path: str
    body: dict[str, Any]
    ids: tuple[int, ...]
    reader: "PlainReader | FormReader"
    param: str | None


async def to_asked(
    request: GenerateRequest, card: ModelCard, prompts: PromptReader, vocabulary: GgufVocabulary
) -> AskedAnswer:
    """Return what is asked of the server; raise `InvalidRequest` for what it would not do."""
    check_ids(request.sampling, vocabulary)
    calls = isinstance(request.prompt, Chat) and must_call(request.prompt)
    if calls:
        request = _without_thought(request, thinks=prompts.thinks)
    held = _to_held(request, calls=calls)
    ids = await prompts.encode(request.prompt)
    chat = request.prompt if isinstance(request.prompt, Chat) and prompts.has_form(request.prompt) else None
    if chat is not None or calls:
        check_form(request, len(ids))
    ids = cut(request, ids)
    limit = answer_limit(request.sampling, len(ids), card.under(request.defaults))
    sampling = settle(request, card)
    if held:
        sampling = structs.replace(sampling, ignore_eos=None)  # it ends where its constraint does
    param = kind_of(request.constraint) if request.constraint is not None else "tools" if calls else None
    if chat is not None:
        words, drawing = prompts.words(chat), to_drawing(sampling, limit, card.context_window)
        body = to_chat_body(words, drawing | held, sampling.stop)
        about = "tools" if "tools" in words else None
        return AskedAnswer("/v1/chat/completions", body, ids, FormReader(request, limit), param or about)
    body = to_body(ids, sampling, limit, card.context_window) | held
    reader = (HeldCallReader if calls else PlainReader)(request, ids, vocabulary)
    return AskedAnswer("/completion", body, ids, reader, param)


def _without_thought(request: GenerateRequest, *, thinks: bool) -> GenerateRequest:
    """Return a request for a call, which comes without a thought before it, and is not looked through for stops."""
    chat = request.prompt
    if thinks and isinstance(chat, Chat):
        if chat.reasoning:
            raise Unsupported("llama-server lets no thought come before a call that must be made", param="reasoning")
        chat = structs.replace(chat, reasoning=False)
    return structs.replace(request, prompt=chat, sampling=structs.replace(request.sampling, stop=None))


def _to_held(request: GenerateRequest, *, calls: bool) -> dict[str, Any]:
    """Return the part of a body that holds an answer to a shape, or to a call."""
    if calls and isinstance(request.prompt, Chat) and request.constraint is None:
        return to_held_call(request.prompt)
    return {} if request.constraint is None else to_grammar(request.constraint)


class PlainReader(CompletionReader):
    """Reads the answer of the endpoint that takes ids."""

    def __init__(self, request: GenerateRequest, ids: tuple[int, ...], vocabulary: GgufVocabulary) -> None:
        super().__init__(request, ids, vocabulary)
        self._frames = FrameReader()

    def feed(self, piece: bytes) -> list[GenerateEvent]:
        """Return the events of the next bytes."""
        return self.take(self._frames.feed(piece))


class HeldCallReader(PlainReader):
    """Reads an answer that is held to a call."""

    def __init__(self, request: GenerateRequest, ids: tuple[int, ...], vocabulary: GgufVocabulary) -> None:
        super().__init__(request, ids, vocabulary)
        self._call = CallEvents()

    def feed(self, piece: bytes) -> list[GenerateEvent]:
        """Return the events of the next bytes."""
        return self._call.see(super().feed(piece))


class FormReader:
    """Reads the answer of the chat endpoint, as that of any server is read that speaks its dialect."""

    def __init__(self, request: GenerateRequest, most: int) -> None:
        self._reader = AnswerReader(request, most)
        self.queue_seconds = 0.0
        self.made = 0

    @property
    def ended(self) -> bool:
        """Whether the answer has ended."""
        return self._reader.ended

    def feed(self, piece: bytes) -> list[GenerateEvent]:
        """Return the events of the next bytes; raise `EngineError` for what is no answer."""
        try:
            found = self._reader.feed(piece)
        except UpstreamFailed as error:
            raise EngineError(f"llama-server: {error.message}") from error
        return [self._seen(event) for event in found]

    def _seen(self, event: GenerateEvent) -> GenerateEvent:
        if isinstance(event, Started):
            return structs.replace(event, queue_seconds=self.queue_seconds)
        if isinstance(event, Delta | ToolDelta):
            self.made += event.tokens
        return event
