"""How the documentation describes the bodies of the routes that make vectors."""

from gateway.api.embeddings.schema import (
    EXAMPLE,
    ContentBody,
    ContentVector,
    EmbeddingObject,
    EmbeddingsBody,
    EmbeddingsReply,
    EmbeddingsUsage,
)
from gateway.api.reference.operation import BodyDoc, ReplyDoc, question

_EMBEDDING_MODEL = "all-minilm-l6-v2"

EMBEDDINGS_OPERATION = question(
    BodyDoc(
        EmbeddingsBody,
        {
            "text": {"model": _EMBEDDING_MODEL, "input": EXAMPLE[0]},
            "texts": {"model": _EMBEDDING_MODEL, "input": EXAMPLE, "encoding_format": "base64"},
        },
    ),
    ReplyDoc(
        EmbeddingsReply,
        EmbeddingsReply(
            data=(EmbeddingObject(index=0, embedding=(0.0213, -0.0071, 0.0459)),),
            model=_EMBEDDING_MODEL,
            usage=EmbeddingsUsage(7, 7),
        ),
    ),
    "The vectors.",
)
CONTENT_OPERATION = question(
    BodyDoc(ContentBody, {"text": {"content": EXAMPLE[0]}}),
    ReplyDoc(ContentVector, (ContentVector(0, ((0.0213, -0.0071, 0.0459),)),)),
    "The vectors.",
)
