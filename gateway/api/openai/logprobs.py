"""From the engine's logprobs to the three shapes that they have in OpenAI's and vLLM's answers; pure."""

import codecs
from collections.abc import Callable, Iterable, Sequence

from gateway.api.exchange.scores import known_bytes, to_number
from gateway.api.openai.reply import ChatLogprob, ChatLogprobs, PromptLogprob, TextLogprobs, TopLogprob
from gateway.engine import TokenLogprob

Say = Callable[[TokenLogprob], str]


def say_text(token: TokenLogprob) -> str:
    """Say a token by its text."""
    return token.text


def say_id(token: TokenLogprob) -> str:
    """Say a token by its id, as vLLM does with `return_tokens_as_token_ids`."""
    return f"token_id:{token.id}"


def say_bytes(token: TokenLogprob) -> str:
    """Say a token by its text; a part of a character by its bytes, as OpenAI's completions do."""
    return token.text if token.raw is None else "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)


def to_chat_logprobs(tokens: Iterable[TokenLogprob], say: Say = say_text) -> ChatLogprobs:
    """Make the shape of chat completions."""
    return ChatLogprobs([_to_chat_logprob(token, say) for token in tokens])


class TextLength:
    """Counts the whole characters of tokens, of which one may be a part of a character only."""

    def __init__(self) -> None:
        self.characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: TokenLogprob) -> None:
        """Take the next token."""
        self.characters += len(self._decoder.decode(token.encoded))


def to_text_logprobs(
    prompt: Sequence[TokenLogprob],
    tokens: Iterable[TokenLogprob],
    before: TextLength | None = None,
    say: Say = say_bytes,
) -> TextLogprobs:
    """Make the shape of completions: `prompt` is what is echoed, `before` the length of what came earlier."""
    found = TextLogprobs([], [], [], [])
    length = TextLength() if before is None else before
    for number, token in enumerate((*prompt, *tokens)):
        is_first = number == 0 and bool(prompt)
        found.tokens.append(say(token))
        found.text_offset.append(length.characters)
        found.token_logprobs.append(None if is_first else to_number(token.logprob))
        found.top_logprobs.append(None if is_first else _to_table(token, say))
        length.add(token)
    return found


def to_prompt_logprobs(tokens: Sequence[TokenLogprob]) -> list[dict[str, PromptLogprob] | None]:
    """Make vLLM's shape; nothing came before the first token, so nothing is said of it."""
    return [_to_ranks(token) if number else None for number, token in enumerate(tokens)]


def _to_chat_logprob(token: TokenLogprob, say: Say) -> ChatLogprob:
    top = [TopLogprob(say(other), to_number(other.logprob), known_bytes(other)) for other in token.top]
    return ChatLogprob(say(token), to_number(token.logprob), known_bytes(token), top)


def _to_table(token: TokenLogprob, say: Say) -> dict[str, float]:
    """Name the alternatives and the token itself; of two with one text the likelier stays."""
    table: dict[str, float] = {}
    for other in (*token.top, token):
        table.setdefault(say(other), to_number(other.logprob))
    return table


def _to_ranks(token: TokenLogprob) -> dict[str, PromptLogprob]:
    ranks: dict[str, PromptLogprob] = {}
    for rank, other in enumerate(token.top, start=1):
        ranks[str(other.id)] = PromptLogprob(to_number(other.logprob), rank, other.text)
    ranks.setdefault(str(token.id), PromptLogprob(to_number(token.logprob), None, token.text))
    return ranks
