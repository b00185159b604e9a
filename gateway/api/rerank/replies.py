"""From the scores of a model to the replies, in JSON."""

import math
import time
from array import array

import msgspec

from gateway.api.rerank.schema import (
    ApiVersion,
    BilledUnits,
    ClassifyReply,
    InputTokens,
    PairScore,
    RerankBody,
    RerankDocument,
    RerankMeta,
    RerankReply,
    RerankResult,
    ScoreReply,
    TextClass,
    TokensRead,
)
from gateway.engine import EngineError, TextScores

# What Cohere counts as one search.
_SEARCH = 100


def to_ranking(reply_id: str, model: str, body: RerankBody, texts: list[str], made: TextScores) -> bytes:
    """Write the best documents first; raise `EngineError` for scores that have no order."""
    scores = [_numbers(row)[0] for row in made.rows]
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    shown = body.returns if body.return_documents is None else body.return_documents
    results = (
        RerankResult(
            index=index, relevance_score=scores[index], document=RerankDocument(texts[index]) if shown else None
        )
        for index in best[: body.top_n or None]
    )
    meta = RerankMeta(
        ApiVersion(body.version), BilledUnits(math.ceil(len(scores) / _SEARCH)), InputTokens(made.prompt_tokens)
    )
    return msgspec.json.encode(
        RerankReply(id=reply_id, model=model, results=tuple(results), usage=_usage(made), meta=meta)
    )


def to_scores(reply_id: str, model: str, made: TextScores) -> bytes:
    """Write the scores in the order of the pairs."""
    data = tuple(PairScore(index=index, score=_numbers(row)[0]) for index, row in enumerate(made.rows))
    return msgspec.json.encode(
        ScoreReply(id=reply_id, created=int(time.time()), model=model, data=data, usage=_usage(made))
    )


def to_classes(reply_id: str, model: str, made: TextScores) -> bytes:
    """Write the likeliest label of each text, and a number for each."""
    data = []
    for index, row in enumerate(map(_numbers, made.rows)):
        likeliest = max(range(len(row)), key=row.__getitem__)
        data.append(TextClass(index=index, label=made.labels[likeliest], probs=row, num_classes=len(row)))
    return msgspec.json.encode(
        ClassifyReply(
            id=reply_id,
            created=int(time.time()),
            model=model,
            labels=made.labels,
            data=tuple(data),
            usage=_usage(made),
        )
    )


def _numbers(row: bytes) -> tuple[float, ...]:
    """Read the numbers of a row; raise `EngineError` for what JSON has no word for, and no order."""
    numbers = tuple(array("f", row))
    if not all(map(math.isfinite, numbers)):
        raise EngineError("the model makes no numbers of these texts: its weights may be damaged")
    return numbers


def _usage(made: TextScores) -> TokensRead:
    return TokensRead(made.prompt_tokens, made.prompt_tokens)
