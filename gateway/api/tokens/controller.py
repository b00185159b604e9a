"""`POST /tokenize`, `/detokenize` and `/apply-template`, also with `/v1`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from gateway.api.exchange.answer import HttpRequest
from gateway.api.http.access import caller_of
from gateway.api.http.body import name_ignored, read_body
from gateway.api.openai.conversation import to_chat
from gateway.api.openai.messages import InputMessage
from gateway.api.openai.schema import ChatCompletionBody
from gateway.api.reference.errors import BODY, ENGINE, KEY, error_responses
from gateway.api.reference.paths import name_operation
from gateway.api.tokens.operation import DETOKENIZE_OPERATION, TEMPLATE_OPERATION, TOKENIZE_OPERATION
from gateway.api.tokens.schema import (
    DetokenizeBody,
    DetokenizeReply,
    TemplateBody,
    TemplateReply,
    TokenizeBody,
    TokenizeReply,
    TokenPiece,
    detokenize_decoder,
    template_decoder,
    tokenize_decoder,
)
from gateway.api.tokens.shared import ConversationBody
from gateway.auth import Caller
from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    EngineError,
    InvalidRequest,
    Prompt,
    TokenSpelling,
    Unsupported,
)
from gateway.questions import Questions
from gateway.service import Inference

B = TypeVar("B", TokenizeBody, DetokenizeBody, TemplateBody)
_REFUSALS = error_responses(
    *KEY,
    *BODY,
    *ENGINE,
    "invalid_value",
    "unsupported_parameter",
    "context_length_exceeded",
    "engine_error",
    "engine_restarted",
    "deadline_exceeded",
)
# A capability that is missing -> the field that asked for it.
_FIELDS: dict[str, str] = {
    Capability.TEMPLATE_ARGUMENTS: "chat_template_kwargs",
    Capability.CONTINUE_FINAL: "continue_final_message",
    Capability.CHAT: "messages",
}


class TokenController(Controller):
    """Looks at tokens and templates."""

    path = "/"

    @post(
        ["/tokenize", "/v1/tokenize"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=TOKENIZE_OPERATION,
        tags=["tokens"],
        summary="Tokenize a text or a conversation",
        response_description="The tokens.",
        responses=_REFUSALS,
    )
    async def tokenize(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[TokenizeReply]:
        """Say which tokens a model reads."""
        caller, body, headers = await _read(request, inference, tokenize_decoder)
        target = inference.find(body.model, caller)
        with _reworded(body):
            ids = await questions.tokenize(target, _to_prompt(body), caller)
            is_spelled = body.return_token_strs or body.with_pieces
            spelled = await questions.spell(target, ids, caller) if is_spelled else ()
        reply = TokenizeReply(
            count=len(ids),
            max_model_len=target.card.context_window,
            tokens=tuple(map(_to_piece, ids, spelled)) if body.with_pieces else ids,
            token_strs=tuple(spelling.text for spelling in spelled) if body.return_token_strs else None,
        )
        return Response(reply, headers=headers)

    @post(
        ["/detokenize", "/v1/detokenize"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=DETOKENIZE_OPERATION,
        tags=["tokens"],
        summary="Turn tokens into text",
        response_description="The text.",
        responses=_REFUSALS,
    )
    async def detokenize(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[DetokenizeReply]:
        """Say which text the tokens are, special ones too."""
        caller, body, headers = await _read(request, inference, detokenize_decoder)
        target = inference.find(body.model, caller)
        with _reworded(body):
            text = "".join(await questions.detokenize(target, body.tokens, caller))
        return Response(DetokenizeReply(prompt=text, content=text), headers=headers)

    @post(
        ["/apply-template", "/v1/apply-template"],
        status_code=HTTP_200_OK,
        operation_id=name_operation,
        operation_class=TEMPLATE_OPERATION,
        tags=["tokens"],
        summary="Put a conversation through its template",
        response_description="What the template wrote.",
        responses=_REFUSALS,
    )
    async def apply_template(
        self, request: HttpRequest, inference: NamedDependency[Inference], questions: NamedDependency[Questions]
    ) -> Response[TemplateReply]:
        """Say what a model reads of a conversation, as text."""
        caller, body, headers = await _read(request, inference, template_decoder)
        target = inference.find(body.model, caller)
        with _reworded(body):
            text = await questions.render(target, _to_conversation(body, body.messages), caller)
        return Response(TemplateReply(prompt=text), headers=headers)


def _to_piece(token: int, spelling: TokenSpelling) -> TokenPiece:
    """Say what a token stands for as llama.cpp does: a text, or bytes where it is a part of a character."""
    try:
        return TokenPiece(token, spelling.data.decode())
    except UnicodeDecodeError:
        return TokenPiece(token, tuple(spelling.data))


async def _read(
    request: HttpRequest, inference: Inference, decoder: msgspec.json.Decoder[B]
) -> tuple[Caller, B, dict[str, str]]:
    body, ignored = (await read_body(request)).decode(decoder)
    return caller_of(request.scope), body, name_ignored(ignored, inference.config.server)


def _to_prompt(body: TokenizeBody) -> Prompt:
    if sum(given is not None for given in (body.prompt, body.content, body.messages)) != 1:
        raise InvalidRequest("give exactly one of prompt, content and messages", param="prompt")
    _check_addition(body)
    if body.messages is not None:
        return _to_conversation(body, body.messages)
    if body.content is not None:
        return Completion(body.content, add_special=bool(body.add_special))
    return Completion(body.prompt or "", add_special=body.add_special_tokens is not False)


def _check_addition(body: TokenizeBody) -> None:
    """Refuse a switch that does not go with what is tokenized."""
    if body.parse_special is False:
        raise Unsupported("special tokens that are spelled out are always read as such", param="parse_special")
    if body.add_special_tokens and body.prompt is None:
        raise InvalidRequest("add_special_tokens goes with prompt; nothing is added here", param="add_special_tokens")
    if body.add_special and body.content is None:
        raise InvalidRequest("add_special goes with content", param="add_special")
    asked = (body.tools, body.add_generation_prompt, body.continue_final_message, body.chat_template_kwargs)
    if body.messages is None and any(value for value in asked):
        raise InvalidRequest("a template and its tools go with messages", param="messages")


def _to_conversation(body: ConversationBody, messages: tuple[InputMessage, ...]) -> Chat:
    return to_chat(
        ChatCompletionBody(
            messages=messages,
            tools=body.tools,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            chat_template_kwargs=body.chat_template_kwargs,
        )
    )


@contextmanager
def _reworded(body: Struct) -> Iterator[None]:
    """Say in these routes' words which field an error is about."""
    try:
        yield
    except EngineError as error:
        text = "content" if isinstance(body, TokenizeBody) and body.content is not None else "prompt"
        if error.param == "prompt" or isinstance(error, ContextTooLong):
            error.param = "messages" if isinstance(body, TemplateBody) else text
        elif error.param == Capability.CONTINUE_FINAL and not getattr(body, "continue_final_message", None):
            error.param = "add_generation_prompt"
        elif error.param is not None:
            error.param = _FIELDS.get(error.param, error.param)
        raise
