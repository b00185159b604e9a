"""How the documentation describes `POST /v1/generate`, whose body and answers Litestar does not see."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation

from gateway.api.http.problems import ErrorBody
from gateway.api.native.schema import (
    GenerateBody,
    GenerateReply,
    LastFrame,
    PromptTokensDetails,
    TextFrame,
    Timings,
    UsageBody,
)
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc, describe
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
        answered = ReplyDoc(GenerateReply, ANSWERED)
        describe(
            self,
            BodyDoc(GenerateBody, ASKED),
            answered,
            StreamDoc((TextFrame, LastFrame, ErrorBody), _FRAMES, STREAMED),
        )
