"""Bodies and answers of `/tokenize`, `/detokenize` and `/apply-template`."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.openai.shared import TokenId
from gateway.api.reference.examples import CONVERSATION, PROMPT
from gateway.api.reference.fields import AskedModel
from gateway.api.tokens.shared import ConversationBody, Messages

_IDS = [504, 3575, 282, 4649, 314]
_PIECES = ["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"]


class TemplateBody(ConversationBody, frozen=True, kw_only=True):
    """A conversation to render."""

    route: ClassVar[str] = "/apply-template"

    messages: Messages


class TokenizeBody(ConversationBody, frozen=True, kw_only=True):
    """A text or a conversation to tokenize: exactly one of `prompt`, `content` and `messages`."""

    route: ClassVar[str] = "/tokenize"

    prompt: Annotated[
        str | None,
        Meta(
            description="A text, as vLLM calls it: it gets what the tokenizer adds by itself, unless"
            " `add_special_tokens` is false.",
            examples=[PROMPT],
        ),
    ] = None
    content: Annotated[
        str | None,
        Meta(
            description="A text, as llama.cpp calls it: it gets nothing added, unless `add_special` is true.",
            examples=[PROMPT],
        ),
    ] = None
    messages: Annotated[
        Messages | None,
        Meta(description="A conversation, put through its template. Left out: none.", examples=[CONVERSATION]),
    ] = None
    add_special_tokens: Annotated[
        bool | None, Meta(description="Goes with `prompt`, false with all. Left out: true with `prompt`, else false.")
    ] = None
    add_special: Annotated[bool | None, Meta(description="Goes with `content`, false with all. Left out: false.")] = (
        None
    )
    parse_special: Annotated[
        bool | None,
        Meta(description="Read special tokens that a text spells out as such; refused where false. Left out: true."),
    ] = None
    return_token_strs: Annotated[
        bool | None, Meta(description="Give the vocabulary's string for each token in `token_strs`. Left out: false.")
    ] = None
    with_pieces: Annotated[
        bool | None, Meta(description="Give each token with its text, as llama.cpp does. Left out: false.")
    ] = None


class DetokenizeBody(ApiBody, frozen=True, kw_only=True):
    """Tokens to turn into text."""

    route: ClassVar[str] = "/detokenize"
    generates: ClassVar[bool] = False

    model: AskedModel = None
    tokens: Annotated[
        tuple[TokenId, ...],
        Meta(
            max_length=1_048_576,
            description="The ids of tokens; 65,536 of them at most, or the model's context if that is more.",
            examples=[_IDS],
        ),
    ]


class TokenPiece(Struct, frozen=True):
    """A token with its text."""

    id: Annotated[int, Meta(description="The token's id.", examples=[504])]
    piece: Annotated[
        str | tuple[int, ...],
        Meta(
            description="Its text; of a token that is a part of a character, its bytes.", examples=["The", [240, 159]]
        ),
    ]


class TokenizeReply(Struct, frozen=True, kw_only=True):
    """The tokens."""

    count: Annotated[int, Meta(description="How many there are.", examples=[5])]
    max_model_len: Annotated[int, Meta(description="The context of the model, in tokens.", examples=[8192])]
    tokens: Annotated[
        tuple[int | TokenPiece, ...],
        Meta(description="Their ids; with `with_pieces` each with its text.", examples=[_IDS]),
    ]
    token_strs: Annotated[
        tuple[str, ...] | None,
        Meta(description="How the vocabulary spells them, with `return_token_strs`.", examples=[_PIECES]),
    ] = None


class DetokenizeReply(Struct, frozen=True, kw_only=True):
    """The text, under both of its names."""

    prompt: Annotated[str, Meta(description="As vLLM calls it.", examples=[PROMPT])]
    content: Annotated[str, Meta(description="As llama.cpp calls it.", examples=[PROMPT])]


class TemplateReply(Struct, frozen=True, kw_only=True):
    """A conversation as the model reads it."""

    prompt: Annotated[str, Meta(description="What the template wrote.", examples=["<|im_start|>user\nHi<|im_end|>\n"])]


tokenize_decoder = msgspec.json.Decoder(TokenizeBody)
detokenize_decoder = msgspec.json.Decoder(DetokenizeBody)
template_decoder = msgspec.json.Decoder(TemplateBody)
