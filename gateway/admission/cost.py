"""The cost of a request in tokens: a bound before its prompt is tokenized, the exact number from `Started` on."""

from gateway.engine import (
    Chat,
    GenerateRequest,
    Image,
    ModelCard,
    Part,
    Prompt,
    ScoreRequest,
    Text,
    Thought,
    Tokens,
    ToolCall,
    ToolResult,
)

# A chat template's markers and default system text; what it writes around one message.
_TEMPLATE_TOKENS = 64
_MESSAGE_TOKENS = 16
_IMAGE_TOKENS = 4_096
# What is only read costs one token for so many bytes, or for so many ids: a microsecond for each of the bytes, a few
# for each of the ids, and some milliseconds for a token that is computed.
_BYTES_READ = 64
_IDS_READ = 16
_SCORES_TOLD = 8


def prompt_bound(prompt: Prompt) -> int:
    """Bound the tokens of a prompt by its bytes.

    No tokenizer makes two tokens of one byte. A tokenizer that rewrites the text, or a long template, may exceed the
    bound; `Started` has the exact number.
    """
    if isinstance(prompt, Tokens):
        return len(prompt.ids)
    if not isinstance(prompt, Chat):
        return _bytes(prompt.text) + 1
    parts = sum(_part(part) for message in prompt.messages for part in message.parts)
    tools = sum(
        2 * _bytes(f"{tool.name}{tool.description}{tool.parameters}") + _MESSAGE_TOKENS for tool in prompt.tools
    )
    return _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(prompt.messages) + parts + tools


def pairs_bound(request: ScoreRequest, card: ModelCard) -> int:
    """Bound the tokens that are computed for scores: those of each document with its query, as far as a model reads."""
    queries = [prompt_bound(query) for query in request.queries]
    each = queries * len(request.documents) if len(queries) == 1 else queries or [0] * len(request.documents)
    pairs = zip(each, map(prompt_bound, request.documents), strict=True)
    return 1 + sum(min(query + document, card.context_window) for query, document in pairs)


def reading_cost(prompt: Prompt) -> int:
    """Count the tokens that a prompt costs which is only read: one for each 64 bytes or 16 ids, and one at least."""
    return 1 + prompt_bound(prompt) // (_IDS_READ if isinstance(prompt, Tokens) else _BYTES_READ)


def cost(request: GenerateRequest, card: ModelCard, prompt_tokens: int, unstated: int) -> int:
    """Count the cache that prompt and answer may take; `unstated` tokens where the request sets no length.

    Log-probabilities take none, but time and memory of the engine and of the worker: they cost as if they did.
    Never more than the cache has: a request that needs all of it runs alone.
    """
    answer = unstated
    for sampling in (request.sampling, card.under(request.defaults).defaults):
        if sampling.max_tokens is not None:
            answer = sampling.max_tokens
            break
        if sampling.max_length is not None:
            answer = sampling.max_length - prompt_tokens
            break
    most = min(card.context_window, card.cache_tokens or card.context_window)
    return max(min(prompt_tokens + max(answer, 1) + _scores(request, prompt_tokens, answer), most), 1)


def _scores(request: GenerateRequest, prompt_tokens: int, answer: int) -> int:
    """Count what it costs to tell how likely tokens and their alternatives are: a token for each eight numbers."""
    sampling = request.sampling
    of_prompt = 0 if sampling.prompt_logprobs is None else prompt_tokens * (1 + sampling.prompt_logprobs)
    of_answer = 0 if sampling.logprobs is None else max(answer, 1) * (1 + sampling.logprobs)
    return (of_prompt + of_answer) // _SCORES_TOLD


def _part(part: Part) -> int:
    match part:
        case Text() | Thought():
            return _bytes(part.text)
        case Image():
            return _IMAGE_TOKENS
        case ToolCall():
            return _bytes(part.id + part.name + part.arguments) + _MESSAGE_TOKENS
        case ToolResult():
            return _bytes(part.id + part.text) + _MESSAGE_TOKENS


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
