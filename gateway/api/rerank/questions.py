"""From the bodies of the routes that judge texts to questions."""

from collections.abc import Mapping
from functools import partial

from msgspec import Struct

from gateway.api.embeddings.questions import to_inputs
from gateway.api.embeddings.schema import MOST_INPUTS
from gateway.api.exchange.question import QuestionEndpoint, QuestionRoute
from gateway.api.rerank.errors import WORDS
from gateway.api.rerank.operation import (
    CLASSIFY_OPERATION,
    RERANK_OPERATION,
    SCORE_OPERATION,
    SECOND_RERANK_OPERATION,
)
from gateway.api.rerank.replies import to_classes, to_ranking, to_scores
from gateway.api.rerank.schema import (
    ClassifyBody,
    RerankBody,
    ScoreBody,
    classify_decoder,
    rerank_decoder,
    score_decoder,
    second_rerank_decoder,
)
from gateway.engine import (
    Capability,
    Completion,
    EngineError,
    InvalidRequest,
    ModelCard,
    ScoreRequest,
    Unsupported,
)
from gateway.flow.offload import offload, offload_large
from gateway.questions import Inquiry, Questions
from gateway.telemetry import request_id

# Numbers of a reply: some twenty megabytes as they are written.
_MOST_NUMBERS = 1 << 20
_FIRST = ("text_1", "queries", "data_1")
_SECOND = ("text_2", "documents", "items", "data_2")
# Words for what is not done here, the values that ask for what is done anyway, and what there is instead.
_ELSEWHERE: Mapping[str, tuple[tuple[object, ...], str]] = {
    "rank_fields": ((["text"],), "of a document's fields only `text` is read"),
    "max_chunks_per_doc": ((1,), "a document is read in one piece"),
    "return_embeddings": ((False,), "POST /v1/embeddings makes vectors"),
    "priority": ((0,), "the priority of a request is its key's"),
}
_PARAMS: dict[str, str] = {
    Capability.SCORE: "model",
    Capability.CLASSIFY: "model",
    "truncate": "truncate_prompt_tokens",
    "truncate_documents": "max_tokens_per_doc",
}


async def _rerank(questions: Questions, inquiry: Inquiry, body: RerankBody) -> bytes:
    """Score the documents for the query, and write the best first."""
    card, own_id = inquiry.target.card, request_id.get()
    _refuse_elsewhere(body)
    texts = await offload_large(inquiry.weight, partial(_texts_of, body))
    asked = ScoreRequest(
        id="",
        model=card.name,
        documents=tuple(map(Completion, texts)),
        queries=(Completion(body.query),),
        raw=body.use_activation is False,
        truncate=card.context_window if body.truncate_prompt_tokens is None else _cut(body, card),
        truncate_documents=body.max_tokens_per_doc,
    )
    made = await questions.score(inquiry, asked)
    return await offload_large(inquiry.weight, partial(to_ranking, own_id, card.name, body, texts, made))


def _texts_of(body: RerankBody) -> list[str]:
    _check_count(len(body.documents), "documents")
    return [document if isinstance(document, str) else document.text for document in body.documents]


async def _score(questions: Questions, inquiry: Inquiry, body: ScoreBody) -> bytes:
    """Score pairs of texts."""
    card, own_id = inquiry.target.card, request_id.get()
    _refuse_elsewhere(body)
    (first, queries), (second, documents) = _side(body, _FIRST), _side(body, _SECOND)
    _check_count(len(documents), second)
    if len(queries) not in (1, len(documents)):
        raise InvalidRequest(
            f"there are {len(queries)} first texts and {len(documents)} second ones: one first, or as many", param=first
        )
    asked = ScoreRequest(
        id="",
        model=card.name,
        documents=tuple(map(Completion, documents)),
        queries=tuple(map(Completion, queries)),
        raw=body.use_activation is False,
        truncate=_cut(body, card),
    )
    made = await questions.score(inquiry, asked)
    return await offload(len(made.rows), partial(to_scores, own_id, card.name, made))


def _side(body: ScoreBody, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the name of one side of the pairs and its texts; raise `InvalidRequest` unless it has exactly one."""
    given = [(name, value) for name in names if (value := getattr(body, name)) is not None]
    if len(given) != 1:
        raise InvalidRequest(f"give exactly one of {', '.join(names)}", param=names[0])
    ((name, texts),) = given
    return name, (texts,) if isinstance(texts, str) else texts


async def _classify(questions: Questions, inquiry: Inquiry, body: ClassifyBody) -> bytes:
    """Say of which class each text is, and how likely each class."""
    card, own_id = inquiry.target.card, request_id.get()
    _refuse_elsewhere(body)
    asked = ScoreRequest(
        id="",
        model=card.name,
        documents=await offload_large(inquiry.weight, partial(to_inputs, body.input, "input")),
        raw=body.use_activation is False,
        truncate=_cut(body, card),
    )
    made = await questions.score(inquiry, asked)
    numbers = len(made.rows) * len(made.labels)
    if numbers > _MOST_NUMBERS:
        raise InvalidRequest(
            f"the classes have {numbers:,} numbers; {_MOST_NUMBERS:,} are told at once: send fewer texts", param="input"
        )
    return await offload(numbers, partial(to_classes, own_id, card.name, made))


def _refuse_elsewhere(body: RerankBody | ScoreBody | ClassifyBody) -> None:
    """Raise `Unsupported` for a word that is not done here."""
    for name, (neutral, instead) in _ELSEWHERE.items():
        value = getattr(body, name, None)
        if value is not None and value not in neutral:
            raise Unsupported(f"{name} is not done here; {instead}", param=name)


def _cut(body: RerankBody | ScoreBody | ClassifyBody, card: ModelCard) -> int | None:
    """Return the most tokens to read; raise `InvalidRequest` for none."""
    asked = body.truncate_prompt_tokens
    if asked == 0:
        raise InvalidRequest("truncate_prompt_tokens is 0: nothing would be read", param="truncate_prompt_tokens")
    return card.context_window if asked == -1 else asked


def _check_count(count: int, param: str) -> None:
    if count > MOST_INPUTS:
        raise InvalidRequest(f"there are {count} texts; {MOST_INPUTS} are the most at once", param=param)


def _reword(error: EngineError, body: Struct) -> None:
    """Say in these routes' words which field an error is about."""
    words = _PARAMS | {"prompt": "documents"}
    if isinstance(body, ClassifyBody):
        words |= dict.fromkeys(("documents", "prompt"), "input")
    elif isinstance(body, ScoreBody):
        given = {name for name in _FIRST + _SECOND if getattr(body, name) is not None}
        sides = (("query", _FIRST), ("documents", _SECOND), ("prompt", _SECOND))
        words |= {word: next((name for name in names if name in given), names[0]) for word, names in sides}
    error.param = None if error.param is None else words.get(error.param, error.param)


ROUTES = (
    QuestionRoute(
        path="/v1/rerank",
        aliases=("/rerank",),
        name="rerank",
        tag="rerank",
        summary="Order documents by how well they answer a query",
        description="Score each document for the query, and tell the best first. In the words of Jina, vLLM, Cohere.",
        operation=RERANK_OPERATION,
        endpoint=QuestionEndpoint(decoder=rerank_decoder, ask=_rerank, reword=_reword),
        errors=WORDS,
    ),
    QuestionRoute(
        path="/v2/rerank",
        name="rerankSecond",
        tag="rerank",
        summary="Order documents, in the words of Cohere's second API",
        description="Score each document for the query, and tell the best first.",
        operation=SECOND_RERANK_OPERATION,
        endpoint=QuestionEndpoint(decoder=second_rerank_decoder, ask=_rerank, reword=_reword),
        errors=WORDS,
    ),
    QuestionRoute(
        path="/v1/score",
        aliases=("/score",),
        name="score",
        tag="rerank",
        summary="Score pairs of texts, as vLLM does",
        description="Score one text with each of others, or pairs, in their order.",
        operation=SCORE_OPERATION,
        endpoint=QuestionEndpoint(decoder=score_decoder, ask=_score, reword=_reword),
    ),
    QuestionRoute(
        path="/v1/classify",
        aliases=("/classify",),
        name="classify",
        tag="rerank",
        summary="Classify texts, as vLLM does",
        description="Say of which class each text is, and how likely each class.",
        operation=CLASSIFY_OPERATION,
        endpoint=QuestionEndpoint(decoder=classify_decoder, ask=_classify, reword=_reword),
    ),
)
