"""From the bodies of the token routes to questions, and from their answers to replies."""

from functools import partial

from msgspec import Struct

from gateway.api.exchange.question import QuestionEndpoint, QuestionRoute
from gateway.api.openai.conversation import to_chat
from gateway.api.openai.messages import InputMessage
from gateway.api.openai.schema import ChatCompletionBody
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
from gateway.flow.offload import offload, offload_large
from gateway.questions import Inquiry, Questions

# A capability that is missing -> the field that asked for it.
_FIELDS: dict[str, str] = {
    Capability.TEMPLATE_ARGUMENTS: "chat_template_kwargs",
    Capability.CONTINUE_FINAL: "continue_final_message",
    Capability.CHAT: "messages",
}


async def _tokenize(questions: Questions, inquiry: Inquiry, body: TokenizeBody) -> TokenizeReply:
    """Say which tokens a model reads."""
    most = inquiry.target.card.context_window
    prompt = await offload_large(inquiry.weight, partial(_to_prompt, body))
    if not (body.return_token_strs or body.with_pieces):
        ids = await questions.tokenize(inquiry, prompt)
        return TokenizeReply(count=len(ids), max_model_len=most, tokens=ids)
    spelled = await questions.spell(inquiry, prompt)
    return await offload(len(spelled), lambda: _to_reply(body, spelled, most))


async def _detokenize(questions: Questions, inquiry: Inquiry, body: DetokenizeBody) -> DetokenizeReply:
    """Say which text the tokens are, special ones too."""
    text = "".join(await questions.detokenize(inquiry, body.tokens))
    return DetokenizeReply(prompt=text, content=text)


async def _render(questions: Questions, inquiry: Inquiry, body: TemplateBody) -> TemplateReply:
    """Say what a model reads of a conversation, as text."""
    chat = await offload_large(inquiry.weight, partial(_to_conversation, body, body.messages))
    return TemplateReply(prompt=await questions.render(inquiry, chat))


def _to_reply(body: TokenizeBody, spelled: tuple[tuple[int, TokenSpelling], ...], most: int) -> TokenizeReply:
    tokens = tuple(_to_piece(*token) if body.with_pieces else token[0] for token in spelled)
    return TokenizeReply(
        count=len(tokens),
        max_model_len=most,
        tokens=tokens,
        token_strs=tuple(spelling.text for _, spelling in spelled) if body.return_token_strs else None,
    )


def _to_piece(token: int, spelling: TokenSpelling) -> TokenPiece:
    """Say what a token stands for as llama.cpp does: a text, or bytes where it is a part of a character."""
    try:
        return TokenPiece(token, spelling.data.decode())
    except UnicodeDecodeError:
        return TokenPiece(token, tuple(spelling.data))


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
    asked = (
        body.tools,
        body.tool_choice,
        body.add_generation_prompt,
        body.continue_final_message,
        body.chat_template_kwargs,
    )
    if body.messages is None and any(value for value in asked):
        raise InvalidRequest("a template and its tools go with messages", param="messages")


def _to_conversation(body: ConversationBody, messages: tuple[InputMessage, ...]) -> Chat:
    return to_chat(
        ChatCompletionBody(
            messages=messages,
            tools=body.tools,
            tool_choice=body.tool_choice,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            chat_template_kwargs=body.chat_template_kwargs,
        )
    )


def _reword(error: EngineError, body: Struct) -> None:
    """Say in these routes' words which field an error is about."""
    text = "content" if isinstance(body, TokenizeBody) and body.content is not None else "prompt"
    if error.param == "prompt" or (isinstance(error, ContextTooLong) and not isinstance(body, DetokenizeBody)):
        error.param = "messages" if isinstance(body, TemplateBody) else text
    elif error.param == Capability.CONTINUE_FINAL and not getattr(body, "continue_final_message", None):
        error.param = "add_generation_prompt"
    elif error.param is not None:
        error.param = _FIELDS.get(error.param, error.param)


ROUTES = (
    QuestionRoute(
        path="/v1/tokenize",
        aliases=("/tokenize",),
        name="tokenize",
        tag="tokens",
        summary="Tokenize a text or a conversation",
        description="Say which tokens a model reads.",
        operation=TOKENIZE_OPERATION,
        endpoint=QuestionEndpoint(decoder=tokenize_decoder, ask=_tokenize, reword=_reword),
    ),
    QuestionRoute(
        path="/v1/detokenize",
        aliases=("/detokenize",),
        name="detokenize",
        tag="tokens",
        summary="Turn tokens into text",
        description="Say which text the tokens are, special ones too.",
        operation=DETOKENIZE_OPERATION,
        endpoint=QuestionEndpoint(decoder=detokenize_decoder, ask=_detokenize, reword=_reword),
    ),
    QuestionRoute(
        path="/v1/apply-template",
        aliases=("/apply-template",),
        name="applyTemplate",
        tag="tokens",
        summary="Put a conversation through its template",
        description="Say what a model reads of a conversation, as text.",
        operation=TEMPLATE_OPERATION,
        endpoint=QuestionEndpoint(decoder=template_decoder, ask=_render, reword=_reword),
    ),
)
