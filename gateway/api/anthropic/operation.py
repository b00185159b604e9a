"""How the documentation describes Anthropic's routes."""

from dataclasses import dataclass
from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Operation, Reference, Schema
from litestar.openapi.spec.enums import OpenAPIType

from gateway.api.anthropic.events import EVENTS, MessageError, MessageReply, MessageUsage, TextContent, TokenCount
from gateway.api.anthropic.render import MessagesRendering, error_body, to_status
from gateway.api.anthropic.schema import CountBody, MessagesBody
from gateway.api.http.problems import Problem
from gateway.api.reference.errors import ANYWHERE, example
from gateway.api.reference.operation import HEADERS, BodyDoc, describe_body
from gateway.engine import Delta, Finished, FinishReason, Started, Usage

_MODEL = "smollm2-135m-instruct"
_ID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_BEGUN = [*_QUESTION, {"role": "assistant", "content": "The capital is"}]
_LEAST = {"model": "default", "max_tokens": 32, "messages": _QUESTION}
_OVERLOADED = 529

ASKED = {
    "question": _LEAST | {"system": "Be brief.", "temperature": 0},
    "stream": _LEAST | {"stream": True, "stop_sequences": ["\n\n"]},
}
COUNTED = {"question": {"model": "default", "messages": _QUESTION}}
ANSWERED = MessageReply(
    id=f"msg_{_ID}",
    model=_MODEL,
    content=(TextContent("Paris."),),
    stop_reason="end_turn",
    stop_sequence=None,
    usage=MessageUsage(5, 3),
)
_FRAMES = """Server-Sent Events, sent where `stream` is true. Each has a name, which is also the `type` of its JSON:

- `message_start`: the message, with nothing in it;
- for each block of text, of thought, or call of a tool: `content_block_start`, any number of `content_block_delta`, and
  `content_block_stop`;
- `message_delta`: why the message ends, and the tokens of all; then `message_stop`, and nothing more;
- `error` in place of these two where the answer failed;
- `ping` anywhere: it only keeps the connection open."""


def told_refusals(*codes: str) -> dict[int, ResponseSpec]:
    """Describe the errors of a route: those of `codes`, and those that any route can answer with."""
    by_status: dict[int, list[str]] = {}
    for code in (*ANYWHERE, *codes):
        by_status.setdefault(to_status(Problem(code)), []).append(code)
    return {status: _refusal(status, named) for status, named in sorted(by_status.items())}


def _refusal(status: int, codes: list[str]) -> ResponseSpec:
    phrase = "Overloaded" if status == _OVERLOADED else HTTPStatus(status).phrase
    return ResponseSpec(
        data_container=MessageError,
        generate_examples=False,
        description=f"{phrase}: {', '.join(f'`{code}`' for code in codes)}",
        examples=[Example(id=code, summary=code, value=_example(code)) for code in codes],
    )


def _example(code: str) -> MessageError:
    told = example(code).error
    return error_body(Problem(code, told.message, param=told.param), _ID)


def _streamed() -> str:
    rendering = MessagesRendering(_MODEL, _ID)
    events = (Started(5), Delta("Paris"), Delta("."), Finished(FinishReason.STOP, Usage(5, 3)))
    return b"".join(rendering.to_frame(event) for event in events).decode()


@dataclass
class MessagesOperation(Operation):
    """A conversation, and its answer whole and streamed."""

    def __post_init__(self) -> None:
        """Fill in what Litestar left open."""
        describe_body(self, BodyDoc(MessagesBody, ASKED))
        self.responses = (self.responses or {}) | {"200": _answered()}


@dataclass
class CountOperation(Operation):
    """A conversation, and its tokens."""

    def __post_init__(self) -> None:
        """Fill in what Litestar left open."""
        describe_body(self, BodyDoc(CountBody, COUNTED))
        media = OpenAPIMediaType(
            schema=Reference("#/components/schemas/TokenCount"),
            examples={"count": Example(summary="count", value=TokenCount(12))},
        )
        answer = OpenAPIResponse(description="The count.", content={"application/json": media})
        self.responses = (self.responses or {}) | {"200": answer}


def _answered() -> OpenAPIResponse:
    frames = Schema(
        title="Events",
        type=OpenAPIType.STRING,
        description=_FRAMES,
        content_media_type="text/event-stream",
        content_schema=Schema(any_of=[Reference(f"#/components/schemas/{kind.__name__}") for kind in EVENTS]),
    )
    return OpenAPIResponse(
        description="The answer: whole, or as a stream of events.",
        headers=dict(HEADERS),
        content={
            "application/json": OpenAPIMediaType(
                schema=Reference("#/components/schemas/MessageReply"),
                examples={"whole": Example(summary="whole", value=ANSWERED)},
            ),
            "text/event-stream": OpenAPIMediaType(
                schema=frames, examples={"stream": Example(summary="stream", value=_streamed())}
            ),
        },
    )
