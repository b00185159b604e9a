"""How the documentation describes the bodies of the routes that show tokens."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation

from gateway.api.reference.operation import BodyDoc, describe_body
from gateway.api.tokens.schema import DetokenizeBody, TemplateBody, TokenizeBody

_TEXT = "The capital of France is"
_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_IDS = [504, 3575, 282, 4649, 314]


@dataclass
class TokenizeOperation(Operation):
    """A text, in the words of two servers, or a conversation."""

    def __post_init__(self) -> None:
        """Fill in what Litestar left open."""
        examples = {
            "text": {"prompt": _TEXT, "return_token_strs": True},
            "content": {"content": _TEXT, "with_pieces": True},
            "conversation": {"messages": _QUESTION},
        }
        describe_body(self, BodyDoc(TokenizeBody, examples))


@dataclass
class DetokenizeOperation(Operation):
    """Tokens."""

    def __post_init__(self) -> None:
        """Fill in what Litestar left open."""
        describe_body(self, BodyDoc(DetokenizeBody, {"tokens": {"tokens": _IDS}}))


@dataclass
class TemplateOperation(Operation):
    """A conversation."""

    def __post_init__(self) -> None:
        """Fill in what Litestar left open."""
        describe_body(self, BodyDoc(TemplateBody, {"conversation": {"messages": _QUESTION}}))
