"""Vectors and scores from the server: OpenAI's embeddings, and the scores of vLLM, of llama-server and of a gateway."""

import asyncio
from array import array
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.engine import (
    Completion,
    Embeddings,
    EmbedRequest,
    ScoreRequest,
    TextScores,
    TimeLeft,
    Tokens,
    Unsupported,
    UpstreamFailed,
)
from gateway_openai.client import UpstreamClient
from gateway_openai.discovery import root_of
from gateway_openai.profiles import GATEWAY
from gateway_openai.refusals import to_error
from gateway_openai.words import RemoteModel

# Bytes of an answer that are read where they are; it takes a millisecond.
_SMALL = 1 << 18
_NUMBER = 4
_LATE = "the time ran out before the server behind this model had answered"
_SENT = {
    "input": "input",
    "dimensions": "dimensions",
    "truncate_prompt_tokens": "truncate",
    "input_type": "role",
    "text_1": "query",
    "query": "query",
    "text_2": "documents",
    "documents": "documents",
    "max_tokens_per_doc": "truncate_documents",
}
_Place = Annotated[int, Meta(ge=0)]


class ServerUsage(Struct, frozen=True):
    """The tokens that the server read."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class ServerVector(Struct, frozen=True):
    """One vector, as numbers or as their bytes."""

    index: _Place
    embedding: str | tuple[float, ...]


class ServerVectors(Struct, frozen=True):
    """The vectors of an answer."""

    data: tuple[ServerVector, ...]
    usage: ServerUsage = ServerUsage()


class ServerScore(Struct, frozen=True):
    """One score."""

    index: _Place
    score: float


class ServerScores(Struct, frozen=True):
    """The scores of pairs."""

    data: tuple[ServerScore, ...]
    usage: ServerUsage = ServerUsage()


class ServerRank(Struct, frozen=True):
    """One document of a ranking."""

    index: _Place
    relevance_score: float


class ServerRanking(Struct, frozen=True):
    """The documents, best first."""

    results: tuple[ServerRank, ...]
    usage: ServerUsage = ServerUsage()


class ServerClass(Struct, frozen=True):
    """How likely each class of one text is."""

    index: _Place
    probs: tuple[float, ...]


class ServerClasses(Struct, frozen=True):
    """The classes of texts."""

    data: tuple[ServerClass, ...]
    labels: tuple[str, ...]
    usage: ServerUsage = ServerUsage()


R = TypeVar("R", bound=Struct)
Placed = TypeVar("Placed", ServerVector, ServerScore, ServerRank, ServerClass)


class RemoteTexts:
    """Asks the server of an engine about texts; a refusal is raised in words of our own."""

    def __init__(self, client: UpstreamClient, seconds: float) -> None:
        self._client = client
        self._seconds = seconds

    async def embed(self, model: RemoteModel, request: EmbedRequest) -> Embeddings:
        """Return the vectors of texts; raise `Unsupported` for what the server has no words for."""
        body: dict[str, Any] = {"model": model.id, "input": _to_inputs(request.inputs)}
        if model.profile.base64:
            body["encoding_format"] = "base64"
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        body |= _cut(model, request.truncate)
        if request.role is not None:
            if model.profile is not GATEWAY:
                raise Unsupported("the server behind this model knows no purposes of texts", param="role")
            body["input_type"] = request.role
        told = await self._ask(f"{self._client.url}/embeddings", body, ServerVectors, request.timeout)
        vectors = await asyncio.to_thread(_in_order, told.data, len(request.inputs), lambda one: _bytes(one.embedding))
        if request.dimensions is not None and any(len(each) != _NUMBER * request.dimensions for each in vectors):
            raise Unsupported("the server behind this model makes vectors of its own length only", param="dimensions")
        return Embeddings(vectors, told.usage.prompt_tokens or told.usage.total_tokens)

    async def score(self, model: RemoteModel, request: ScoreRequest) -> TextScores:
        """Return the scores of pairs, or the classes of texts; raise `Unsupported` for what the server cannot do."""
        if not request.queries:
            return await self._classify(model, request)
        if model.profile.name == "llama-server" or request.truncate_documents is not None:
            return await self._rank(model, request)
        body: dict[str, Any] = {
            "model": model.id,
            "text_1": _to_inputs(request.queries),
            "text_2": _to_inputs(request.documents),
        }
        body |= _cut(model, request.truncate) | ({"use_activation": False} if request.raw else {})
        told = await self._ask(f"{root_of(self._client)}/score", body, ServerScores, request.timeout)
        rows = _in_order(told.data, len(request.documents), lambda one: array("f", (one.score,)).tobytes())
        return TextScores(rows, told.usage.prompt_tokens or told.usage.total_tokens)

    async def _rank(self, model: RemoteModel, request: ScoreRequest) -> TextScores:
        """Ask for the scores of one query's documents in the words of Jina, which llama-server has alone."""
        own = request.truncate_documents
        query, *others = request.queries
        if others:
            raise Unsupported("the server behind this model scores documents for one query", param="query")
        body: dict[str, Any] = {
            "model": model.id,
            "query": query.text,
            "documents": _to_inputs(request.documents),
            "top_n": len(request.documents),
        }
        if model.profile is GATEWAY:
            body |= {"return_documents": False, "use_activation": not request.raw}
            body |= _cut(model, request.truncate) | ({} if own is None else {"max_tokens_per_doc": own})
        elif own is not None and own < model.card.context_window:
            raise Unsupported("the server behind this model cuts no documents", param="truncate_documents")
        else:
            _cut(model, request.truncate)
        told = await self._ask(f"{self._client.url}/rerank", body, ServerRanking, request.timeout)
        rows = _in_order(told.results, len(request.documents), lambda one: array("f", (one.relevance_score,)).tobytes())
        return TextScores(rows, told.usage.prompt_tokens or told.usage.total_tokens)

    async def _classify(self, model: RemoteModel, request: ScoreRequest) -> TextScores:
        body: dict[str, Any] = {"model": model.id, "input": _to_inputs(request.documents)}
        body |= _cut(model, request.truncate) | ({"use_activation": False} if request.raw else {})
        told = await self._ask(f"{root_of(self._client)}/classify", body, ServerClasses, request.timeout)
        rows = _in_order(told.data, len(request.documents), lambda one: array("f", one.probs).tobytes())
        return TextScores(rows, told.usage.prompt_tokens or told.usage.total_tokens, told.labels)

    async def _ask(self, url: str, body: dict[str, Any], kind: type[R], seconds: float | None) -> R:
        async with TimeLeft(seconds).limit(_LATE):
            status, answer = await self._client.ask("POST", url, body, self._seconds)
        if status != 200:  # noqa: PLR2004 - as HTTP numbers it
            raise to_error(status, answer, None, _SENT)
        try:
            if len(answer) <= _SMALL:
                return msgspec.json.decode(answer, type=kind)
            return await asyncio.to_thread(msgspec.json.decode, answer, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamFailed(
                "the server behind this model answered a question about texts with nonsense"
            ) from error


def _to_inputs(inputs: tuple[Completion | Tokens, ...] | tuple[Completion, ...]) -> list[Any]:
    return [one.text if isinstance(one, Completion) else one.ids for one in inputs]


def _cut(model: RemoteModel, most: int | None) -> dict[str, int]:
    """Return the word for the most tokens to read; raise `Unsupported` where a server has none and would read more.

    What a server reads at most, it is not asked to read: one without the word refuses what is longer.
    """
    if most is None:
        return {}
    if model.profile.cuts:
        return {"truncate_prompt_tokens": most}
    if most >= model.card.context_window:
        return {}
    raise Unsupported("the server behind this model cuts no texts", param="truncate")


def _in_order(items: Sequence[Placed], count: int, to_bytes: Callable[[Placed], bytes]) -> tuple[bytes, ...]:
    """Return the bytes of each item in the order of the places; raise `UpstreamFailed` unless each has one."""
    made: dict[int, bytes] = {}
    try:
        for item in items:
            made[item.index] = to_bytes(item)
    except (ValueError, OverflowError) as error:
        raise UpstreamFailed("the server behind this model answered with numbers that are none") from error
    if len(items) != count or made.keys() != set(range(count)):
        raise UpstreamFailed(f"the server behind this model answered {len(items)} times where {count} texts were sent")
    return tuple(made[place] for place in range(count))


def _bytes(vector: str | tuple[float, ...]) -> bytes:
    if not isinstance(vector, str):
        return array("f", vector).tobytes()
    found = b64decode(vector, validate=True)
    if len(found) % _NUMBER:
        raise ValueError(vector[:_NUMBER])
    return found
