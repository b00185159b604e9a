"""Questions about tokens, in the words of vLLM or of llama-server."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.engine import Chat, InvalidRequest, Prompt, Tokens, Unsupported, UpstreamFailed
from gateway_openai.client import UpstreamClient
from gateway_openai.discovery import root_of
from gateway_openai.profiles import GATEWAY
from gateway_openai.refusals import to_error
from gateway_openai.words import RemoteModel, to_chat

_SECONDS = 30.0
# A server that shows no pieces is asked for each token by itself.
_MOST_PIECES = 256
# What a template reads of a conversation's words.
_OF_A_TEMPLATE = ("messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs")
_Byte = Annotated[int, Meta(ge=0, le=255)]


class ServerPiece(Struct, frozen=True):
    """A token with its text, or with its bytes where it is a part of a character."""

    id: int
    piece: str | tuple[_Byte, ...]


class ServerIds(Struct, frozen=True):
    """The tokens of a text."""

    tokens: tuple[int, ...]


class ServerPieces(Struct, frozen=True):
    """The tokens of a text, with their own."""

    tokens: tuple[ServerPiece, ...]


class ServerText(Struct, frozen=True):
    """The text of tokens, as vLLM or as llama-server calls it."""

    prompt: str | None = None
    content: str | None = None


R = TypeVar("R", bound=Struct)


class RemoteTokenizer:
    """Asks the server of an engine about the tokens of its models; a refusal is raised in words of our own."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def ids(self, model: RemoteModel, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens that the server reads."""
        if isinstance(prompt, Tokens):
            return prompt.ids
        if isinstance(prompt, Chat):
            return await self._chat_ids(model, prompt)
        body: dict[str, Any] = {"model": model.id}
        if model.profile.tokens == "vllm":
            body |= {"prompt": prompt.text, "add_special_tokens": prompt.add_special}
        else:
            body |= {"content": prompt.text, "add_special": prompt.add_special}
        return (await self._ask("/tokenize", body, ServerIds)).tokens

    async def pieces(self, model: RemoteModel, ids: Sequence[int]) -> tuple[str, ...]:
        """Return one piece of text a token, together the text of all."""
        if not ids:
            return ()
        if model.card.vocabulary and max(ids) >= model.card.vocabulary:
            raise InvalidRequest(f"there is no token {max(ids)}", param="tokens")
        text = await self._text(model, ids)
        if len(ids) == 1:
            return (text,)
        if model.profile.tokens == "llama-server" or model.profile is GATEWAY:
            body = {"model": model.id, "content": text, "add_special": False, "with_pieces": True}
            found = (await self._ask("/tokenize", body, ServerPieces)).tokens
            if tuple(each.id for each in found) == tuple(ids):
                return _to_texts([each.piece for each in found])
        if len(ids) <= _MOST_PIECES:
            each = await asyncio.gather(*(self._text(model, (number,)) for number in ids))
            if "".join(each) == text:
                return tuple(each)
        raise Unsupported("the server behind this model shows no text for each of these tokens", param="tokens")

    async def template(self, model: RemoteModel, chat: Chat) -> str:
        """Return a conversation as the server's template writes it."""
        if model.profile.tokens != "llama-server" and model.profile is not GATEWAY:
            raise Unsupported("the server behind this model does not show its template")
        return (await self._ask("/apply-template", self._chat(model, chat), ServerText)).prompt or ""

    async def info(self, model: RemoteModel) -> dict[str, Any]:
        """Return the configuration of a tokenizer."""
        url = f"{root_of(self._client)}/tokenizer_info?model={model.id}"
        status, body = await self._client.ask("GET", url, seconds=_SECONDS)
        return _read(status, body, dict[str, Any])

    async def _chat_ids(self, model: RemoteModel, chat: Chat) -> tuple[int, ...]:
        if model.profile.tokens == "vllm":
            return (await self._ask("/tokenize", self._chat(model, chat), ServerIds)).tokens
        text = await self.template(model, chat)
        # What a template writes begins with its own special tokens.
        body = {"content": text, "add_special": True, "parse_special": True}
        return (await self._ask("/tokenize", body, ServerIds)).tokens

    def _chat(self, model: RemoteModel, chat: Chat) -> dict[str, Any]:
        words = to_chat(chat, model)
        return {"model": model.id} | {name: words[name] for name in _OF_A_TEMPLATE if name in words}

    async def _text(self, model: RemoteModel, ids: Sequence[int]) -> str:
        told = await self._ask("/detokenize", {"model": model.id, "tokens": list(ids)}, ServerText)
        text = told.prompt if told.content is None else told.content
        if text is None:
            raise UpstreamFailed("the server behind this model does not say which text its tokens are")
        return text

    async def _ask(self, path: str, body: dict[str, Any], kind: type[R]) -> R:
        status, answer = await self._client.ask("POST", root_of(self._client) + path, body, _SECONDS)
        return _read(status, answer, kind)


V = TypeVar("V")


def _read(status: int, body: bytes, kind: type[V]) -> V:
    if status != 200:  # noqa: PLR2004 - as HTTP numbers it
        error = to_error(status, body, None)
        raise (
            InvalidRequest("the server behind this model refuses the tokens", param="tokens")
            if type(error) is InvalidRequest
            else error
        )
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailed("the server behind this model answered a question about tokens with nonsense") from error


def _to_texts(pieces: Sequence[str | tuple[int, ...]]) -> tuple[str, ...]:
    """Put the bytes of a character of several tokens into the piece of the last of them."""
    texts: list[str] = []
    held = b""
    for piece in pieces:
        held += piece.encode() if isinstance(piece, str) else bytes(piece)
        try:
            text, held = held.decode(), b""
        except UnicodeDecodeError:
            text = ""
        texts.append(text)
    return (*texts[:-1], texts[-1] + held.decode(errors="replace"))
