"""What OpenAI's dialect makes of a body and of an engine's events, without a service."""

import msgspec

from gateway.api.exchange.asked import Asking, Prompts
from gateway.api.exchange.constraint import to_constraint
from gateway.api.openai.render import ChoiceRendering
from gateway.api.openai.render_details import chat_rendering, text_rendering
from gateway.api.openai.schema import chat_decoder, completion_decoder
from gateway.api.openai.shared import CommonBody
from gateway.api.openai.translate import to_prompts
from gateway.config import Config
from gateway.engine import Capability, Finished, FinishReason, Fold, GenerateRequest, ModelCard, TokenLogprob, Usage

ABLE = ModelCard(
    name="m", context_window=100, capabilities=frozenset(Capability), fingerprint="f", vocabulary=256, places=4
)
QUESTION = [{"role": "user", "content": "hi"}]
PARTS = [TokenLogprob(1, "a", -0.5), TokenLogprob(2, "b", float("-inf"))]


def chat(**fields) -> CommonBody:
    """Decode a chat completion's body."""
    return chat_decoder.decode(msgspec.json.encode({"messages": QUESTION} | fields))


def text(**fields) -> CommonBody:
    """Decode a completion's body."""
    return completion_decoder.decode(msgspec.json.encode({"prompt": "hi"} | fields))


def prompts(body: CommonBody, card: ModelCard = ABLE, priority: int = 0) -> Prompts:
    """Translate a body."""
    return to_prompts(body, Asking(card, Config(), "1", priority))


def asked(body: CommonBody, card: ModelCard = ABLE) -> GenerateRequest:
    """Translate a body with one prompt."""
    (request,) = prompts(body, card).requests
    return request


def rendering(body: CommonBody, card: ModelCard = ABLE) -> ChoiceRendering:
    """Make the rendering that belongs to a body."""
    make = chat_rendering if hasattr(body, "messages") else text_rendering
    made = make(body, card, "1")
    made.is_structured = to_constraint(body) is not None
    return made


def finished(reason=FinishReason.STOP) -> Finished:
    """End an answer."""
    return Finished(reason, Usage(7, 3, 2))


def whole(body: CommonBody, *events) -> dict:
    """Render one whole answer, and decode it."""
    fold = Fold()
    made = rendering(body)
    for event in events:
        made.note(event)
        fold.add(event)
    answer = fold.answer()
    return msgspec.json.decode(made.to_reply({0: answer}, answer.finished.usage))


def streamed(body: CommonBody, *events) -> bytes:
    """Render one streamed answer."""
    made = rendering(body)
    return b"".join(made.to_frame(event) for event in events)


def chunks(body: CommonBody, *events) -> list[dict]:
    """Render one streamed answer, and decode its chunks."""
    *frames, end = streamed(body, *events).split(b"\n\n")
    assert end == b""
    assert all(frame.startswith(b"data: ") for frame in frames)
    return [msgspec.json.decode(frame.removeprefix(b"data: ")) for frame in frames]
