"""How the documentation describes the bodies of the routes that show tokens."""

from gateway.api.reference.examples import CONVERSATION, PROMPT
from gateway.api.reference.operation import BodyDoc, body_only
from gateway.api.tokens.schema import DetokenizeBody, TemplateBody, TokenizeBody

TOKENIZE_OPERATION = body_only(
    BodyDoc(
        TokenizeBody,
        {
            "text": {"prompt": PROMPT, "return_token_strs": True},
            "content": {"content": PROMPT, "with_pieces": True},
            "conversation": {"messages": CONVERSATION},
        },
    )
)
DETOKENIZE_OPERATION = body_only(BodyDoc(DetokenizeBody, {"tokens": {"tokens": [504, 3575, 282, 4649, 314]}}))
TEMPLATE_OPERATION = body_only(BodyDoc(TemplateBody, {"conversation": {"messages": CONVERSATION}}))
