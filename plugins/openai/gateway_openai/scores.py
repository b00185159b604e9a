"""From a server's logprobs to ours."""

import re
from collections.abc import Iterator, Mapping, Sequence

from gateway.engine import TokenLogprob
from gateway_openai.chunks import FrameLogprobs, FrameToken, PromptRanks, RankedToken

# A token of which the server does not say the id.
UNKNOWN = -1
# How OpenAI's completions write a token that is a part of a character.
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")
_BROKEN = "\N{REPLACEMENT CHARACTER}"


def to_logprobs(told: FrameLogprobs, ids: Sequence[int] | None, ranks: int) -> tuple[TokenLogprob, ...]:
    """Return the tokens of a frame with `ranks` alternatives each; `ids` are theirs where the server says them."""
    tokens = tuple(_of_chat(told.content, ranks) if told.content is not None else _of_text(told, ranks))
    if ids is None or len(ids) != len(tokens):
        return tokens
    return tuple(
        TokenLogprob(number, token.text, token.logprob, token.top, token.raw)
        for number, token in zip(ids, tokens, strict=True)
    )


def to_scores(told: PromptRanks, ids: Sequence[int], text: str | None, ranks: int) -> tuple[TokenLogprob, ...]:
    """Return the scores of a prompt; `text` is what was read, where that is known: it tells the first token's text."""
    scores = [_ranked(number, table or {}, ranks) for number, table in zip(ids, told, strict=True)]
    if not scores:
        return ()
    rest = "".join(score.text for score in scores[1:])
    first = text.removesuffix(rest) if text is not None and text.endswith(rest) else ""
    return (TokenLogprob(ids[0], first, 0.0), *scores[1:])


def _of_chat(tokens: Sequence[FrameToken], ranks: int) -> Iterator[TokenLogprob]:
    for token in tokens:
        top = tuple(_to_logprob(other) for other in (token.top_logprobs or ())[:ranks])
        yield _to_logprob(token, top)


def _to_logprob(token: FrameToken, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    raw = bytes(token.bytes) if token.bytes is not None and bytes(token.bytes) != token.token.encode() else None
    return TokenLogprob(UNKNOWN, token.token, min(token.logprob, 0.0), top, raw)


def _of_text(told: FrameLogprobs, ranks: int) -> Iterator[TokenLogprob]:
    tokens, tables = told.tokens or (), told.top_logprobs or ()
    for number, (text, logprob) in enumerate(zip(tokens, told.token_logprobs or (), strict=False)):
        table = (tables[number] if number < len(tables) else None) or {}
        best = sorted(table.items(), key=lambda item: item[1], reverse=True)[:ranks]
        top = tuple(_spelled(other, value) for other, value in best)
        yield _spelled(text, logprob or 0.0, top)


def _spelled(text: str, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    found = _BYTES.fullmatch(text)
    if found is None:
        return TokenLogprob(UNKNOWN, text, min(logprob, 0.0), top)
    return TokenLogprob(UNKNOWN, _BROKEN, min(logprob, 0.0), top, bytes.fromhex(found[1].replace("\\x", "")))


def _ranked(number: int, table: Mapping[int, RankedToken], ranks: int) -> TokenLogprob:
    """Find a token among those that were possible in its place, the likeliest of which are told beside it."""
    best = sorted(table.items(), key=lambda item: item[1].logprob, reverse=True)[:ranks]
    top = tuple(TokenLogprob(key, each.decoded_token or "", min(each.logprob, 0.0)) for key, each in best)
    own = table.get(number)
    if own is None:
        return TokenLogprob(number, "", -9999.0, top)
    return TokenLogprob(number, own.decoded_token or "", min(own.logprob, 0.0), top)
