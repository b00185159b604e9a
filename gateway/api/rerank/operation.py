"""How the documentation describes the bodies and answers of the routes that judge texts."""

from gateway.api.reference.examples import REQUEST_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, question
from gateway.api.rerank.schema import (
    DOCUMENTS,
    QUERY,
    ApiVersion,
    BilledUnits,
    ClassifyBody,
    ClassifyReply,
    InputTokens,
    PairScore,
    RerankBody,
    RerankDocument,
    RerankMeta,
    RerankReply,
    RerankResult,
    ScoreBody,
    ScoreReply,
    SecondRerankBody,
    TextClass,
    TokensRead,
)

_RERANKER = "ms-marco-minilm-l6-v2"
_CREATED = 1_764_326_400
_READ = TokensRead(24, 24)
_ASKED = {"model": _RERANKER, "query": QUERY, "documents": DOCUMENTS, "top_n": 1}
_RANKED = RerankReply(
    id=REQUEST_ID,
    model=_RERANKER,
    results=(RerankResult(index=0, relevance_score=0.9987, document=RerankDocument(DOCUMENTS[0])),),
    usage=_READ,
    meta=RerankMeta(ApiVersion("1"), BilledUnits(1), InputTokens(24)),
)

RERANK_OPERATION = question(
    BodyDoc(
        RerankBody,
        {"texts": _ASKED, "objects": _ASKED | {"documents": [{"text": text} for text in DOCUMENTS]}},
    ),
    ReplyDoc(RerankReply, _RANKED),
    "The documents, best first.",
)
SECOND_RERANK_OPERATION = question(
    BodyDoc(SecondRerankBody, {"texts": _ASKED | {"max_tokens_per_doc": 512}}),
    ReplyDoc(RerankReply, _RANKED),
    "The documents, best first.",
)
SCORE_OPERATION = question(
    BodyDoc(
        ScoreBody,
        {
            "one to many": {"model": _RERANKER, "text_1": QUERY, "text_2": DOCUMENTS},
            "pairs": {"model": _RERANKER, "queries": [QUERY, QUERY], "documents": DOCUMENTS},
        },
    ),
    ReplyDoc(
        ScoreReply,
        ScoreReply(
            id=REQUEST_ID, created=_CREATED, model=_RERANKER, data=(PairScore(index=0, score=0.9987),), usage=_READ
        ),
    ),
    "The scores.",
)
CLASSIFY_OPERATION = question(
    BodyDoc(ClassifyBody, {"text": {"model": "distilbert-sst-2", "input": "I like it."}}),
    ReplyDoc(
        ClassifyReply,
        ClassifyReply(
            id=REQUEST_ID,
            created=_CREATED,
            model="distilbert-sst-2",
            labels=("NEGATIVE", "POSITIVE"),
            data=(TextClass(index=0, label="POSITIVE", probs=(0.1, 0.9), num_classes=2),),
            usage=TokensRead(6, 6),
        ),
    ),
    "The classes.",
)
