"""How the documentation describes `POST /v1/generate`, whose body and answers Litestar does not see."""

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
from gateway.api.reference.examples import CONVERSATION, MODEL, PROMPT, REQUEST_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, StreamDoc, generation, to_frames
from gateway.engine import FinishReason

_USAGE = UsageBody(5, 3, 8, PromptTokensDetails(0))
_TIMINGS = Timings(0.0, 0.021, 0.093)

ASKED = {
    "text": {"prompt": PROMPT, "max_new_tokens": 16, "temperature": 0},
    "conversation": {"messages": CONVERSATION, "max_new_tokens": 32, "temperature": 0},
    "stream": {"prompt": PROMPT, "max_new_tokens": 16, "stream": True},
    "sampling": {"prompt": "Once upon a time", "temperature": 0.8, "top_p": 0.95, "seed": 7, "stop": ["\n\n"]},
}
ANSWERED = GenerateReply(
    generated_text=f"{PROMPT} Paris.",
    prompt=PROMPT,
    model=MODEL,
    id=REQUEST_ID,
    finish_reason=FinishReason.STOP,
    stop=None,
    usage=_USAGE,
    timings=_TIMINGS,
)
STREAMED: tuple[TextFrame | LastFrame, ...] = (
    TextFrame(PROMPT),
    TextFrame(" Paris"),
    TextFrame("."),
    LastFrame(finish_reason=FinishReason.STOP, stop=None, model=MODEL, id=REQUEST_ID, usage=_USAGE, timings=_TIMINGS),
)

_FRAMES = """Server-Sent Events, sent where `stream` is true. Each frame is `data: ` and one line of JSON:

- `TextFrame`, any number of them: a piece of the answer;
- `LastFrame`, once: why the answer ended, and what it used; behind it comes `data: [DONE]`;
- `ErrorBody` in place of the last frame where the stream failed; then there is no `[DONE]`.

A line that begins with a colon (`: ping`) only keeps the connection open."""


OPERATION = generation(
    BodyDoc(GenerateBody, ASKED),
    ReplyDoc(GenerateReply, ANSWERED),
    StreamDoc((TextFrame, LastFrame, ErrorBody), _FRAMES, to_frames(STREAMED)),
)
