"""How the documentation describes the route that explains a request."""

from gateway.api.explain.schema import (
    ExplainBody,
    ExplainedLimits,
    ExplainedParameter,
    ExplainedPrompt,
    ExplainedQueue,
    Explanation,
)
from gateway.api.reference.examples import CONVERSATION, MODEL, REQUEST_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, question

_TEXT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
_CHAT = "/v1/chat/completions"

EXPLAIN_OPERATION = question(
    BodyDoc(ExplainBody, {"chat": {"url": _CHAT, "body": {"messages": CONVERSATION, "max_tokens": 16}}}),
    ReplyDoc(
        Explanation,
        Explanation(
            id=REQUEST_ID,
            url=_CHAT,
            model=MODEL,
            engine="default",
            plugin="hf",
            why="the request names no model, and this is the first",
            route=None,
            is_loaded=True,
            prompts=(
                ExplainedPrompt(text=_TEXT, tokens=5, ids=(1, 4093, 198, 1780, 314), cached_tokens=0, max_tokens=16),
            ),
            prompts_in_all=1,
            answers=1,
            parameters={
                "max_tokens": ExplainedParameter(16, "request"),
                "temperature": ExplainedParameter(0.2, "model"),
            },
            without_effect=(),
            queue=ExplainedQueue(position=0, waiting=0, running=1, places=8, seconds=0.0, refusal=None),
            first_token_seconds=0.21,
            limits=ExplainedLimits(
                tokens=127,
                requests_per_minute=60,
                tokens_per_minute=None,
                tokens_per_day=None,
                concurrent=4,
                context_window=8_192,
                seconds=600.0,
                queue_seconds=10.0,
                first_token_seconds=None,
            ),
        ),
    ),
    "What would become of the request.",
)
