"""What a route says about its errors: their codes, with an example of each."""

from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import Struct

from gateway.api.http.problems import OWN_WORDS, ErrorWords, Problem
from gateway.api.reference.examples import REQUEST_ID

# Statuses that HTTP has no phrase for.
_PHRASES = {529: "Overloaded"}

# The codes that any route can answer with; one that is not public; one with a body; one that needs an engine; one that
# lets it generate.
ANYWHERE = ("invalid_url", "bad_host", "duplicate_header", "origin_not_allowed", "method_not_allowed", "internal_error")
KEY = (
    "key_in_url",
    "missing_api_key",
    "invalid_api_key",
    "insufficient_scope",
    "rate_limit_exceeded",
    "keys_unavailable",
)
BODY = ("invalid_json", "unsupported_media_type", "body_timeout", "request_too_large")
ENGINE = ("model_not_found", "engine_unavailable", "draining")
GENERATION = (
    "invalid_value",
    "unsupported_parameter",
    "context_length_exceeded",
    "engine_error",
    "upstream_unavailable",
    "request_quarantined",
    "tokens_exceeded",
    "too_many_concurrent",
    "cancelled",
    "overloaded",
    "memory_pressure",
    "queue_timeout",
    "engine_restarted",
    "deadline_exceeded",
)

# code -> message, param; where nothing stands here, the code's own message is the example.
_EXAMPLES = {
    "invalid_json": ("the body is not valid JSON: invalid character (byte 11)", None),
    "invalid_value": ("temperature: expected `float` <= 2.0", "temperature"),
    "bad_host": ("this service does not answer to that host; see server.allowed_hosts", None),
    "origin_not_allowed": ("web pages of that origin may not call this; see cors.origins", None),
    "unsupported_parameter": ("the model 'echo' does not support logit_bias", "logit_bias"),
    "context_length_exceeded": ("the prompt has 5000 tokens; 904 too many for the context of 4096", "prompt"),
    "model_not_found": ("there is no model 'gpt-2'; there is 'smollm2-135m-instruct'", "model"),
    "body_timeout": ("the body did not arrive within 10 s", None),
    "request_too_large": ("the body may have 4194304 bytes", None),
    "engine_error": ("the generation failed inside the engine", None),
    "upstream_unavailable": ("the server behind this engine did not answer", None),
    "key_in_url": ("a key belongs in the header Authorization, not in a URL", None),
    "keys_unavailable": ("the API keys cannot be read at the moment; try again", None),
    "duplicate_header": ("Authorization and x-api-key may come once", None),
    "missing_api_key": ("an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY", None),
    "invalid_api_key": ("this API key is not valid", None),
    "insufficient_scope": ("this key is not for that: it needs the scope 'admin'", None),
    "rate_limit_exceeded": ("this key may make 60 requests a minute", None),
    "tokens_exceeded": ("this key may use 10000 tokens a minute", None),
    "too_many_concurrent": ("this key may have 4 requests at once", None),
    "cancelled": ("the request was cancelled", None),
    "memory_pressure": ("93% of the memory is in use", None),
    "queue_timeout": ("no place came free within 10.0 s", None),
    "engine_restarted": ("the engine's process has ended; it is being replaced", None),
    "request_quarantined": (
        "the engine's process ended twice while it ran this request; it is not run again for now",
        None,
    ),
    "overloaded": ("too many requests are waiting", None),
    "engine_unavailable": ("the model is not ready: the model is loading", None),
    "quota_exceeded": ("there are 1000 files of yours; files.per_key is 1000: delete some", None),
    "file_in_use": ("batch_01KDVXK0M4Q2E6S9ZB3H7TJN5R reads this file; cancel it first", "file_id"),
    "not_repeatable": ("this request cannot repeat itself: its answer is drawn anew each time, without a seed", None),
    "too_many_batches": ("16 batches of yours are under way; batches.per_key is 16: wait for one", None),
    "store_unavailable": ("what is stored cannot be reached at the moment; try again", None),
    "not_found": ("there is nothing of that name here", None),
    "load_failed": ("the model 'gpt-2' is no folder", None),
    "draining": ("the service is going down and takes no new requests", None),
    "deadline_exceeded": ("the time ran out before the first token", None),
}


def error_responses(*codes: str, words: ErrorWords = OWN_WORDS) -> dict[int, ResponseSpec]:
    """Describe the errors of a route: those of `codes`, and those that any route can answer with."""
    by_status: dict[int, list[str]] = {}
    for code in (*ANYWHERE, *codes):
        by_status.setdefault(words.to_status(Problem(code)), []).append(code)
    return {status: _response(status, named, words) for status, named in sorted(by_status.items())}


def example(code: str, words: ErrorWords = OWN_WORDS) -> Struct:
    """Make the body that a client gets with `code`."""
    message, param = _EXAMPLES.get(code, ("", None))
    return words.to_body(Problem(code, message, param=param), REQUEST_ID)


def _response(status: int, codes: list[str], words: ErrorWords) -> ResponseSpec:
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    return ResponseSpec(
        data_container=words.schema,
        generate_examples=False,
        description=f"{phrase}: {', '.join(f'`{code}`' for code in codes)}",
        examples=[Example(id=code, summary=code, value=example(code, words)) for code in codes],
    )
