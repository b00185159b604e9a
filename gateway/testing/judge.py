"""How the scripted engine judges texts: by the words that a document shares with its query, and by its length."""

from struct import pack

from gateway.engine import ContextTooLong, ScoreRequest, TextScores
from gateway.testing.words import words_of

_LABELS = ("short", "long")


def judge(request: ScoreRequest, window: int) -> TextScores:
    """Score documents by the share of their words that the query has, or tell short ones from long ones.

    Raises `ContextTooLong` for a pair of more than `window` words that may not be cut.
    """
    most = min(request.truncate or window, window)
    queries = [words_of(query) for query in request.queries] or [[]]
    rows: list[bytes] = []
    read = 0
    for at, document in enumerate(request.documents):
        query = queries[at if len(queries) > 1 else 0]
        words = words_of(document)[: request.truncate_documents]
        if request.truncate is None and len(query) + len(words) > most:
            raise ContextTooLong(f"text {at} has more than the {most} words that are read", param="documents")
        words = words[: max(most - len(query), 0)]
        read += len(query) + len(words)
        rows.append(_share(query, words, raw=request.raw) if request.queries else _classes(words))
    return TextScores(tuple(rows), read, () if request.queries else _LABELS)


def _share(query: list[str], words: list[str], *, raw: bool) -> bytes:
    known = {word.strip() for word in query}
    share = sum(word.strip() in known for word in words) / (len(words) or 1)
    return pack("<f", 2 * share - 1 if raw else share)


def _classes(words: list[str]) -> bytes:
    short = 1 / (1 + len(words))
    return pack("<2f", short, 1 - short)
