"""Bodies and answers of `/v1/rerank`, `/v2/rerank`, `/v1/score` and `/v1/classify`."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.api.embeddings.schema import MOST_INPUTS, Inputs
from gateway.api.http.unknown_fields import ApiBody
from gateway.api.reference.fields import AskedModel, Elsewhere, User

QUERY = "What is the capital of France?"
DOCUMENTS = ["Paris is the capital of France.", "The Seine is a river."]
_ID = "01KDVXK0M4Q2E6S9ZB3H7TJN5R"
_TOKENS = 24

_Texts = str | Annotated[tuple[str, ...], Meta(min_length=1, max_length=1_048_576)]
_Cut = Annotated[
    Annotated[int, Meta(ge=-1, le=2**31)] | None,
    Meta(
        description="Read no more than so many tokens of each pair, or text: the end of the document is left out; -1 as"
        " many as the model reads. Left out: a reranked document is cut to fit, any other text is refused.",
        examples=[-1],
    ),
]
_Activation = Annotated[
    bool | None,
    Meta(description="Whether the model's own function makes scores of its numbers. Left out: true; false: raw ones."),
]


class RerankDocument(Struct, frozen=True):
    """A document as an object."""

    text: Annotated[str, Meta(description="Its text.", examples=DOCUMENTS[:1])]


class RerankBody(ApiBody, frozen=True, kw_only=True):
    """Documents to order by how well they answer a query, in the words of Jina, of vLLM and of Cohere's first API."""

    route: ClassVar[str] = "/v1/rerank"
    generates: ClassVar[bool] = False
    returns: ClassVar[bool] = True
    version: ClassVar[str] = "1"

    model: AskedModel = None
    query: Annotated[str, Meta(min_length=1, description="What is looked for.", examples=[QUERY])]
    documents: Annotated[
        tuple[str | RerankDocument, ...],
        Meta(
            min_length=1,
            max_length=1_048_576,
            description=f"Texts, or objects with a `text`; {MOST_INPUTS:,} at most.",
            examples=[DOCUMENTS],
        ),
    ]
    top_n: Annotated[
        Annotated[int, Meta(ge=0, le=2**31)] | None,
        Meta(description="Tell so many of the best. Left out: all; 0 too.", examples=[3]),
    ] = None
    return_documents: Annotated[
        bool | None,
        Meta(description="Tell each document with its score. Left out: true at `/v1/rerank`, false at `/v2/rerank`."),
    ] = None
    max_tokens_per_doc: Annotated[
        Annotated[int, Meta(ge=1, le=2**31)] | None,
        Meta(
            description="Read so many tokens of a document at most, and no more than the model has room for. Left out:"
            " as many as there is room for.",
            examples=[512],
        ),
    ] = None
    truncate_prompt_tokens: _Cut = None
    use_activation: _Activation = None
    user: User = None
    rank_fields: Elsewhere = None
    max_chunks_per_doc: Elsewhere = None
    return_embeddings: Elsewhere = None
    priority: Elsewhere = None


class SecondRerankBody(RerankBody, frozen=True, kw_only=True):
    """Documents to order by how well they answer a query, in the words of Cohere's second API."""

    route: ClassVar[str] = "/v2/rerank"
    returns: ClassVar[bool] = False
    version: ClassVar[str] = "2"


class ScoreBody(ApiBody, frozen=True, kw_only=True):
    """Pairs of texts to score: one first text with each second one, or each with its own."""

    route: ClassVar[str] = "/v1/score"
    generates: ClassVar[bool] = False

    model: AskedModel = None
    text_1: Annotated[
        _Texts | None,
        Meta(description="The first text, or one for each second. Exactly one of its names.", examples=[QUERY]),
    ] = None
    text_2: Annotated[
        _Texts | None,
        Meta(description=f"The second texts, {MOST_INPUTS:,} at most. Exactly one of its names.", examples=[DOCUMENTS]),
    ] = None
    queries: Annotated[_Texts | None, Meta(description="Another name of `text_1`.", examples=[QUERY])] = None
    documents: Annotated[_Texts | None, Meta(description="Another name of `text_2`.", examples=[DOCUMENTS])] = None
    items: Annotated[_Texts | None, Meta(description="Another name of `text_2`.", examples=[DOCUMENTS])] = None
    data_1: Annotated[_Texts | None, Meta(description="Another name of `text_1`.", examples=[QUERY])] = None
    data_2: Annotated[_Texts | None, Meta(description="Another name of `text_2`.", examples=[DOCUMENTS])] = None
    truncate_prompt_tokens: _Cut = None
    use_activation: _Activation = None
    user: User = None
    priority: Elsewhere = None


class ClassifyBody(ApiBody, frozen=True, kw_only=True):
    """Texts to classify."""

    route: ClassVar[str] = "/v1/classify"
    generates: ClassVar[bool] = False

    model: AskedModel = None
    input: Annotated[
        Inputs,
        Meta(
            description=f"A text or its tokens, or a list of either, {MOST_INPUTS:,} at most.", examples=["I like it."]
        ),
    ]
    truncate_prompt_tokens: _Cut = None
    use_activation: _Activation = None
    user: User = None
    priority: Elsewhere = None


class RerankResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One document: the higher its score, the better it answers."""

    index: Annotated[int, Meta(description="Its place in the request, from 0.", examples=[0])]
    relevance_score: Annotated[float, Meta(description="Its score, as the model makes it.", examples=[0.9987])]
    document: Annotated[
        RerankDocument | None, Meta(description="The document, with `return_documents`.", examples=[None])
    ] = None


class TokensRead(Struct, frozen=True):
    """The tokens that were read."""

    prompt_tokens: Annotated[int, Meta(description="Those of all pairs, or texts.", examples=[_TOKENS])]
    total_tokens: Annotated[int, Meta(description="The same.", examples=[_TOKENS])]


class ApiVersion(Struct, frozen=True):
    """Whose words the answer is in."""

    version: Annotated[str, Meta(description="The version of Cohere's API.", examples=["2"])]


class BilledUnits(Struct, frozen=True):
    """What Cohere would count; nothing is billed here."""

    search_units: Annotated[int, Meta(description="One for each hundred documents begun.", examples=[1])]


class InputTokens(Struct, frozen=True):
    """The tokens that were read, in Cohere's words."""

    input_tokens: Annotated[int, Meta(description="Those of all pairs.", examples=[_TOKENS])]


class RerankMeta(Struct, frozen=True):
    """What Cohere's clients read beside the results."""

    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: InputTokens


class RerankReply(Struct, frozen=True, kw_only=True):
    """The documents, best first."""

    id: Annotated[str, Meta(description="The request's id.", examples=[_ID])]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    model: Annotated[str, Meta(description="The model that scored them.", examples=["ms-marco-minilm-l6-v2"])]
    results: Annotated[tuple[RerankResult, ...], Meta(description="The documents, best first.")]
    usage: TokensRead
    meta: RerankMeta


class PairScore(Struct, frozen=True, kw_only=True):
    """The score of one pair."""

    index: Annotated[int, Meta(description="The place of the pair, from 0.", examples=[0])]
    object: Annotated[Literal["score"], Meta(description="Always `score`.")] = "score"
    score: Annotated[float, Meta(description="The score, as the model makes it.", examples=[0.9987])]


class ScoreReply(Struct, frozen=True, kw_only=True):
    """The scores, in the order of the pairs."""

    id: Annotated[str, Meta(description="The request's id.", examples=[_ID])]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    created: Annotated[int, Meta(description="When, in seconds since 1970.", examples=[1_764_326_400])]
    model: Annotated[str, Meta(description="The model that made them.", examples=["ms-marco-minilm-l6-v2"])]
    data: Annotated[tuple[PairScore, ...], Meta(description="The scores.")]
    usage: TokensRead


class TextClass(Struct, frozen=True, kw_only=True):
    """The likeliest class of one text, and how likely each is."""

    index: Annotated[int, Meta(description="The place of the text, from 0.", examples=[0])]
    label: Annotated[str, Meta(description="The likeliest label.", examples=["POSITIVE"])]
    probs: Annotated[
        tuple[float, ...], Meta(description="A number for each label, in the order of `labels`.", examples=[[0.1, 0.9]])
    ]
    num_classes: Annotated[int, Meta(description="How many labels there are.", examples=[2])]


class ClassifyReply(Struct, frozen=True, kw_only=True):
    """The classes, in the order of the texts."""

    id: Annotated[str, Meta(description="The request's id.", examples=[_ID])]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    created: Annotated[int, Meta(description="When, in seconds since 1970.", examples=[1_764_326_400])]
    model: Annotated[str, Meta(description="The model that made them.", examples=["distilbert-sst-2"])]
    labels: Annotated[tuple[str, ...], Meta(description="The model's labels.", examples=[["NEGATIVE", "POSITIVE"]])]
    data: Annotated[tuple[TextClass, ...], Meta(description="The classes.")]
    usage: TokensRead


rerank_decoder = msgspec.json.Decoder(RerankBody)
second_rerank_decoder = msgspec.json.Decoder(SecondRerankBody)
score_decoder = msgspec.json.Decoder(ScoreBody)
classify_decoder = msgspec.json.Decoder(ClassifyBody)
