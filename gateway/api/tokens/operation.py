"""How the documentation describes the bodies and answers of the routes that show tokens."""

from gateway.api.reference.examples import CONVERSATION, PROMPT
from gateway.api.reference.operation import BodyDoc, ReplyDoc, question
from gateway.api.tokens.schema import (
    DetokenizeBody,
    DetokenizeReply,
    TemplateBody,
    TemplateReply,
    TokenizeBody,
    TokenizeReply,
)

_IDS = (504, 3575, 282, 4649, 314)

TOKENIZE_OPERATION = question(
    BodyDoc(
        TokenizeBody,
        {
            "text": {"prompt": PROMPT, "return_token_strs": True},
            "content": {"content": PROMPT, "with_pieces": True},
            "conversation": {"messages": CONVERSATION},
        },
    ),
    ReplyDoc(TokenizeReply, TokenizeReply(count=len(_IDS), max_model_len=8_192, tokens=_IDS)),
    "The tokens.",
)
DETOKENIZE_OPERATION = question(
    BodyDoc(DetokenizeBody, {"tokens": {"tokens": _IDS}}),
    ReplyDoc(DetokenizeReply, DetokenizeReply(prompt=PROMPT, content=PROMPT)),
    "The text.",
)
TEMPLATE_OPERATION = question(
    BodyDoc(TemplateBody, {"conversation": {"messages": CONVERSATION}}),
    ReplyDoc(TemplateReply, TemplateReply(prompt="<|im_start|>user\nHi<|im_end|>\n")),
    "What the template wrote.",
)
