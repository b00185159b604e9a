"""From a `/v1/generate` body to the engine's request; pure."""

import re

from gateway.api.exchange.asked import Asking, Prompts, check_bad_words, greedy_at_zero
from gateway.api.exchange.constraint import reword_shape, to_constraint
from gateway.api.native.schema import GenerateBody
from gateway.config import GenerateSettings
from gateway.engine import (
    Chat,
    Completion,
    ContextTooLong,
    EngineError,
    GenerateRequest,
    InvalidRequest,
    Message,
    ModelCard,
    Prompt,
    Sampling,
    Text,
)
from gateway.flow.deadline import Timeouts

# The engine's words for what this dialect calls otherwise.
_FIELDS = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
_WORDS = re.compile(rf"\b({'|'.join(_FIELDS)})\b")
_PROMPTS = {"prompt", "chat", "completion"}


def reword(error: EngineError, body: GenerateBody) -> None:
    """Say in this dialect's words, not in the engine's, which field an error is about and why."""
    if reword_shape(error, body):
        return
    param = "prompt" if error.param is None and isinstance(error, ContextTooLong) else error.param
    if param in _PROMPTS:
        param = "prompt" if body.messages is None else "messages"
    error.param = _FIELDS.get(param, param) if param else None
    if isinstance(error, InvalidRequest):
        error.message = _WORDS.sub(lambda word: _FIELDS[word[0]], error.message)


def to_prompts(body: GenerateBody, asking: Asking) -> Prompts:
    """Translate; raise `InvalidRequest` where the fields contradict each other."""
    return Prompts((to_request(body, asking.card, asking.config.generate, asking.request_id, asking.priority),))


def to_request(
    body: GenerateBody, card: ModelCard, defaults: GenerateSettings, request_id: str, highest: int = 0
) -> GenerateRequest:
    """Translate; raise `InvalidRequest` where the fields contradict each other. `highest` is the caller's priority."""
    return GenerateRequest(
        id=request_id,
        model=body.model or card.name,
        prompt=_to_prompt(body),
        sampling=greedy_at_zero(_to_sampling(body)),
        defaults=_to_defaults(body, defaults),
        constraint=to_constraint(body),
        priority=highest if body.priority is None else body.priority,
    )


def to_timeouts(body: GenerateBody) -> Timeouts:
    """Return the time-outs of a body."""
    return Timeouts(total=body.timeout, queue=body.queue_timeout, first_token=body.first_token_timeout)


def _to_prompt(body: GenerateBody) -> Prompt:
    if body.messages is not None and body.prompt is not None:
        raise InvalidRequest("give prompt or messages, not both", param="messages")
    if body.messages is not None:
        return Chat(tuple(Message(message.role, (Text(message.content),)) for message in body.messages))
    if body.prompt is not None:
        return Completion(body.prompt)
    raise InvalidRequest("give prompt (a text to go on with) or messages (a conversation)", param="prompt")


def _to_sampling(body: GenerateBody) -> Sampling:
    if body.max_length is not None and body.max_new_tokens is not None:
        raise InvalidRequest("give max_length or max_new_tokens, not both", param="max_length")
    _check_minimum(body)
    return Sampling(
        max_tokens=body.max_new_tokens,
        max_length=body.max_length,
        min_tokens=body.min_new_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=0 if body.top_k == -1 else body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=body.logit_bias,
        seed=body.seed,
        stop=(body.stop,) if isinstance(body.stop, str) else body.stop,
        stop_token_ids=body.stop_token_ids,
        include_stop_str_in_output=body.include_stop_str_in_output,
        allowed_token_ids=body.allowed_token_ids,
        bad_words=check_bad_words(body.bad_words),
        ignore_eos=body.ignore_eos,
    )


def _check_minimum(body: GenerateBody) -> None:
    most = body.max_new_tokens or body.max_length
    if body.min_new_tokens is not None and most is not None and body.min_new_tokens > most:
        raise InvalidRequest(
            f"min_new_tokens is {body.min_new_tokens}; the answer may have {most} at most", param="min_new_tokens"
        )


def _to_defaults(body: GenerateBody, defaults: GenerateSettings) -> Sampling:
    """Hand the configured defaults on; a length only where the body says nothing of one."""
    has_length = body.max_length is not None or body.max_new_tokens is not None
    return Sampling(max_length=None if has_length else defaults.max_length, temperature=defaults.temperature)
