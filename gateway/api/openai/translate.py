"""From a chat completion's or a completion's body to the engine's requests; pure.

What a body leaves out is what the model's own generation config says, and else what the API documents: temperature 1,
no cut-off, no penalty. An answer's length is, where it is left out, of a chat what the context has left, and of a
completion 16 tokens.
"""

from typing import cast

from msgspec import structs

from gateway.api.exchange.asked import Asking, Prompts, check_bad_words, greedy_at_zero
from gateway.api.exchange.constraint import reword_shape, to_constraint
from gateway.api.openai.conversation import path_of, to_chat
from gateway.api.openai.parameters import NEEDS, refuse
from gateway.api.openai.schema import MOST_PROMPTS, ChatCompletionBody, CompletionBody
from gateway.api.openai.shared import MOST_ALTERNATIVES, CommonBody
from gateway.engine import (
    Capability,
    Completion,
    ContextTooLong,
    EngineError,
    GenerateRequest,
    InvalidRequest,
    ModelCard,
    Prompt,
    Sampling,
    Tokens,
    Unsupported,
)

_USUAL_TOKENS = 16
_CUT, _WHATEVER_FITS = "truncate_prompt_tokens", -1
_ALL = -1
_SCORES = {Capability.LOGPROBS, Capability.PROMPT_LOGPROBS, Capability.TOKEN_IDS}
_PROMPTS = {"prompt", "chat", "completion", "tokens"}
# LiteLLM and LangChain know this error by these words of the message, not by its code.
_TOO_LONG = "this model's maximum context length is exceeded (context_length_exceeded)"


def to_prompts(body: ChatCompletionBody | CompletionBody, asking: Asking) -> Prompts:
    """Translate; raise `InvalidRequest` for fields that contradict each other or are not supported."""
    refuse(body)
    _check_stream(body)
    _check_alternatives(body)
    n = body.n or 1
    best_of = _best_of(body, n)
    prompts = _to_prompts(body)
    constraint = to_constraint(body)
    if constraint is not None and (name := _silent(body)):
        raise InvalidRequest(f"{name} is 0; then there is no answer to hold to a shape", param=name)
    if len(prompts) * best_of > MOST_PROMPTS:
        raise InvalidRequest(
            f"{len(prompts)} prompts with {best_of} answers each are too many; {MOST_PROMPTS} answers are the most",
            param="n" if body.n else "best_of",
        )
    first = GenerateRequest(
        id=asking.request_id,
        model=body.model or asking.card.name,
        prompt=prompts[0],
        sampling=greedy_at_zero(_to_sampling(body, has_ranks=best_of > n)),
        defaults=_to_defaults(body, asking.card),
        constraint=constraint,
        truncate=_to_truncate(body, asking.card),
        truncation_side=body.truncation_side or "left",
        priority=asking.priority,
        salt=body.cache_salt or "",
    )
    others = (
        structs.replace(first, id=f"{asking.request_id}.{number}", prompt=prompt)
        for number, prompt in enumerate(prompts[1:], start=1)
    )
    return Prompts((first, *others), n, best_of)


def reword(error: EngineError, body: ChatCompletionBody | CompletionBody) -> None:
    """Say in this dialect's words, not in the engine's, which field an error is about."""
    if reword_shape(error, body):
        return
    param = error.param
    if isinstance(error, ContextTooLong):
        param = param or "prompt"
        error.message = f"{_TOO_LONG}: {error.message}"
    if param in _PROMPTS:
        param = "messages" if isinstance(body, ChatCompletionBody) else "prompt"
    elif isinstance(body, ChatCompletionBody) and (path := path_of(param, body)):
        param = path
    elif param == Capability.MAX_TOKENS and isinstance(body, ChatCompletionBody):
        param = _length_name(body)
        error.message = error.message.replace("max_tokens", param)
    elif param is not None and (isinstance(error, Unsupported) or param in _SCORES):
        param = _asked_by(param, body)
    error.param = param


def _asked_by(capability: str, body: CommonBody) -> str:
    """Find the field that asked for a capability."""
    fields = [path.partition(".")[0] for path, need in NEEDS.items() if need == capability]
    if capability == Capability.PROMPT_LOGPROBS:
        fields.append("echo")
    return next((field for field in fields if _is_asked(field, getattr(body, field, None))), capability)


def _is_asked(field: str, value: object) -> bool:
    if field in ("add_special_tokens", "add_generation_prompt", "parallel_tool_calls"):
        return value is False
    return value is not None and value is not False


def _check_stream(body: CommonBody) -> None:
    options = body.stream_options
    if options is not None and (options.include_usage or options.continuous_usage_stats) and not body.stream:
        raise InvalidRequest("stream_options goes with stream", param="stream_options")
    if options is not None and options.include_obfuscation:
        raise Unsupported("chunks are not padded here", param="stream_options.include_obfuscation")
    if body.stream and body.prompt_logprobs is not None:
        raise InvalidRequest("prompt_logprobs does not go with stream", param="prompt_logprobs")


def _check_alternatives(body: CommonBody) -> None:
    """Refuse what vLLM takes for the whole vocabulary."""
    for name in ("logprobs", "top_logprobs", "prompt_logprobs"):
        if getattr(body, name, None) == _ALL:
            raise Unsupported(
                f"{name} is -1, the whole vocabulary for every token; ask for up to {MOST_ALTERNATIVES}", param=name
            )


def _to_truncate(body: ChatCompletionBody | CompletionBody, card: ModelCard) -> int | None:
    """Count the tokens of a prompt that are read at most; -1 leaves the answer as many as it asks for, or one."""
    if body.truncate_prompt_tokens == 0:
        raise InvalidRequest("then nothing of the prompt is read; leave it out to read all", param=_CUT)
    if body.truncate_prompt_tokens != _WHATEVER_FITS:
        return body.truncate_prompt_tokens
    return max(card.context_window - (_to_length(body) or body.min_tokens or 1), 1)


def _best_of(body: CommonBody, n: int) -> int:
    best_of = body.best_of if isinstance(body, CompletionBody) else None
    if best_of is None:
        return n
    if best_of < n:
        raise InvalidRequest(f"best_of is {best_of}; that is fewer than n, {n}", param="best_of")
    if best_of > n and body.stream:
        raise InvalidRequest("best_of does not go with stream", param="best_of")
    return best_of


def _to_prompts(body: ChatCompletionBody | CompletionBody) -> tuple[Prompt, ...]:
    if isinstance(body, ChatCompletionBody):
        return (to_chat(body),)
    prompts = _split(body.prompt)
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise InvalidRequest(f"prompt: expected 1 to {MOST_PROMPTS} prompts", param="prompt")
    return tuple(_to_prompt(prompt, body) for prompt in prompts)


def _split(prompt: str | tuple[str | int | tuple[int, ...], ...]) -> tuple[str | tuple[int, ...], ...]:
    """Tell one prompt from many; numbers are the tokens of one."""
    if isinstance(prompt, str):
        return (prompt,)
    kinds = set(map(type, prompt))
    if int in kinds and len(kinds) > 1:
        raise InvalidRequest("prompt: expected texts, or tokens, or lists of tokens, not a mix", param="prompt")
    if int in kinds:
        return (cast("tuple[int, ...]", prompt),)
    return cast("tuple[str | tuple[int, ...], ...]", prompt)


def _to_prompt(prompt: str | tuple[int, ...], body: CompletionBody) -> Prompt:
    if isinstance(prompt, str):
        return Completion(prompt, add_special=body.add_special_tokens is not False)
    if not prompt:
        raise InvalidRequest("prompt: a list of tokens is empty", param="prompt")
    return Tokens(prompt)


def _to_sampling(body: ChatCompletionBody | CompletionBody, *, has_ranks: bool) -> Sampling:
    logprobs = _to_logprobs(body)
    return Sampling(
        max_tokens=_to_length(body),
        min_tokens=body.min_tokens,
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
        token_ids=body.return_token_ids,
        logprobs=0 if has_ranks and logprobs is None else logprobs,
        prompt_logprobs=_to_prompt_logprobs(body, logprobs),
    )


def _silent(body: CommonBody) -> str | None:
    """Name the field that asks for no answer, where one does."""
    return next((name for name in ("max_tokens", "max_completion_tokens") if getattr(body, name, None) == 0), None)


def _length_name(body: ChatCompletionBody) -> str:
    return "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"


def _to_length(body: ChatCompletionBody | CompletionBody) -> int | None:
    """Find the tokens that each answer may have; where it may have none, one is made and not shown."""
    name, most = "max_tokens", body.max_tokens
    if isinstance(body, ChatCompletionBody):
        name = _length_name(body)
        if None not in (most, body.max_completion_tokens) and most != body.max_completion_tokens:
            what = f"max_tokens is {most}, max_completion_tokens is {body.max_completion_tokens}; give one of them"
            raise InvalidRequest(what, param="max_completion_tokens")
        most = body.max_completion_tokens if most is None else most
    if most is None:
        return None
    if most == 0 and body.prompt_logprobs is None and not (isinstance(body, CompletionBody) and body.echo):
        raise InvalidRequest(f"{name} is 0; then there is nothing to answer", param=name)
    if body.min_tokens is not None and body.min_tokens > most:
        raise InvalidRequest(f"min_tokens is {body.min_tokens}; the answer may have {most} at most", param="min_tokens")
    return max(most, 1)


def _to_defaults(body: ChatCompletionBody | CompletionBody, card: ModelCard) -> Sampling:
    has_length = body.max_tokens is not None or card.defaults.max_tokens is not None
    if isinstance(body, ChatCompletionBody) or has_length or card.defaults.max_length is not None:
        return Sampling()
    return Sampling(max_tokens=max(_USUAL_TOKENS, body.min_tokens or 0))


def _to_logprobs(body: ChatCompletionBody | CompletionBody) -> int | None:
    if isinstance(body, CompletionBody):
        return body.logprobs
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs goes with logprobs", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _to_prompt_logprobs(body: ChatCompletionBody | CompletionBody, logprobs: int | None) -> int | None:
    """Ask for the prompt's tokens also to echo them: for their logprobs, or where they are all that is known of it."""
    asked = [body.prompt_logprobs]
    if isinstance(body, CompletionBody) and body.echo:
        asked.append(logprobs)
        if body.truncate_prompt_tokens or not all(isinstance(prompt, str) for prompt in _split(body.prompt)):
            asked.append(0)
    return max((number for number in asked if number is not None), default=None)
