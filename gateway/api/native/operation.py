"""How the documentation describes `POST /v1/generate`, whose body and answers Litestar does not see."""

from dataclasses import dataclass

import msgspec
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from gateway.api.native.schema import (
    GenerateBody,
    GenerateReply,
    LastFrame,
    PromptTokensDetails,
    TextFrame,
    Timings,
    UsageBody,
)
from gateway.api.problems import ErrorBody
from gateway.api.streaming import DONE
from gateway.engine import FinishReason

_PROMPT = "The capital of France is"
_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_MODEL = "smollm2-135m-instruct"
_ID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
_USAGE = UsageBody(5, 3, 8, PromptTokensDetails(0))
_TIMINGS = Timings(0.0, 0.021, 0.093)

ASKED = {
    "text": {"prompt": _PROMPT, "max_new_tokens": 16, "temperature": 0},
    "conversation": {"messages": _QUESTION, "max_new_tokens": 32, "temperature": 0},
    "stream": {"prompt": _PROMPT, "max_new_tokens": 16, "stream": True},
    "sampling": {"prompt": "Once upon a time", "temperature": 0.8, "top_p": 0.95, "seed": 7, "stop": ["\n\n"]},
}
ANSWERED = GenerateReply(
    generated_text=f"{_PROMPT} Paris.",
    prompt=_PROMPT,
    model=_MODEL,
    id=_ID,
    finish_reason=FinishReason.STOP,
    stop=None,
    usage=_USAGE,
    timings=_TIMINGS,
)
STREAMED: tuple[TextFrame | LastFrame, ...] = (
    TextFrame(_PROMPT),
    TextFrame(" Paris"),
    TextFrame("."),
    LastFrame(finish_reason=FinishReason.STOP, stop=None, model=_MODEL, id=_ID, usage=_USAGE, timings=_TIMINGS),
)

_FRAMES = """Server-Sent Events, sent where `stream` is true. Each frame is `data: ` and one line of JSON:

- `TextFrame`, any number of them: a piece of the answer;
- `LastFrame`, once: why the answer ended, and what it used; behind it comes `data: [DONE]`;
- `ErrorBody` in place of the last frame where the stream failed; then there is no `[DONE]`.

A line that begins with a colon (`: ping`) only keeps the connection open."""


@dataclass
class GenerateOperation(Operation):
    """The operation with its body, and its answer whole and streamed."""

    def __post_init__(self) -> None:
        """Fill in what Litestar left open."""
        self.request_body = RequestBody(required=True, content={"application/json": _asked()})
        self.responses = (self.responses or {}) | {"200": _answered()}


def _asked() -> OpenAPIMediaType:
    examples = {name: Example(summary=name, value=value) for name, value in ASKED.items()}
    return OpenAPIMediaType(schema=_reference(GenerateBody), examples=dict(examples))


def _answered() -> OpenAPIResponse:
    return OpenAPIResponse(
        description="The answer: whole, or as a stream of frames.",
        headers={"x-ignored-params": Reference("#/components/headers/x-ignored-params")},
        content={
            "application/json": OpenAPIMediaType(
                schema=_reference(GenerateReply), examples={"whole": Example(summary="whole", value=ANSWERED)}
            ),
            "text/event-stream": OpenAPIMediaType(
                schema=_frames(), examples={"stream": Example(summary="stream", value=_written())}
            ),
        },
    )


def _frames() -> Schema:
    kinds = [_reference(kind) for kind in (TextFrame, LastFrame, ErrorBody)]
    return Schema(
        title="Frames",
        type=OpenAPIType.STRING,
        description=_FRAMES,
        content_media_type="text/event-stream",
        content_schema=Schema(any_of=kinds),
    )


def _written() -> str:
    frames = [b"data: " + msgspec.json.encode(frame) + b"\n\n" for frame in STREAMED]
    return b"".join([*frames, DONE]).decode()


def _reference(kind: type[msgspec.Struct]) -> Reference:
    return Reference(f"#/components/schemas/{kind.__name__}")
