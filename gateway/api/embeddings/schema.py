"""Bodies and answers of `/v1/embeddings` and `/embedding`."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.openai.shared import TokenId
from gateway.api.reference.fields import AskedModel, User

# As many inputs as OpenAI takes.
MOST_INPUTS = 2_048
EXAMPLE = ["The food was delicious.", "The waiter was friendly."]

Inputs = str | Annotated[tuple[str | TokenId | tuple[TokenId, ...], ...], Meta(min_length=1, max_length=1_048_576)]


class EmbeddingsBody(ApiBody, frozen=True, kw_only=True):
    """Texts to turn into vectors."""

    route: ClassVar[str] = "/v1/embeddings"
    generates: ClassVar[bool] = False

    model: AskedModel = None
    input: Annotated[
        Inputs,
        Meta(
            description=f"A text or its tokens, or a list of either, {MOST_INPUTS:,} at most.",
            examples=["The food was delicious.", EXAMPLE],
        ),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Meta(
            description="`base64` gives each vector as the bytes of its float32 numbers. Left out: `float`.",
            examples=["base64"],
        ),
    ] = None
    dimensions: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 20)] | None,
        Meta(
            description="How many numbers a vector is to have, the first of the model's own, normalized again: of use"
            " with models that were trained for it. Left out: all.",
            examples=[256],
        ),
    ] = None
    input_type: Annotated[
        Literal["query", "document", "passage", "search_query", "search_document"] | None,
        Meta(
            description="The texts' purpose: some models read a prompt of their own before each. Left out: neither.",
            examples=["query"],
        ),
    ] = None
    truncate_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=-1, le=2**31)] | None,
        Meta(
            description="Read no more than so many of the first tokens of each text; -1 as many as the model reads."
            " Left out: a text that is too long is refused.",
            examples=[-1],
        ),
    ] = None
    user: User = None


class ContentBody(ApiBody, frozen=True, kw_only=True):
    """Texts to turn into vectors, as llama.cpp's own clients send them."""

    route: ClassVar[str] = "/embedding"
    generates: ClassVar[bool] = False

    model: AskedModel = None
    content: Annotated[
        Inputs, Meta(description="A text or its tokens, or a list of either.", examples=["The food was delicious."])
    ]


class EmbeddingObject(Struct, frozen=True, kw_only=True):
    """The vector of one input."""

    object: Annotated[Literal["embedding"], Meta(description="Always `embedding`.")] = "embedding"
    index: Annotated[int, Meta(description="The place of the input, from 0.", examples=[0])]
    embedding: Annotated[
        tuple[float, ...] | str,
        Meta(description="The numbers; with `base64` their bytes.", examples=[[0.0213, -0.0071, 0.0459]]),
    ]


class EmbeddingsUsage(Struct, frozen=True):
    """The tokens that were read."""

    prompt_tokens: Annotated[int, Meta(description="The tokens of all inputs.", examples=[14])]
    total_tokens: Annotated[int, Meta(description="The same.", examples=[14])]


class EmbeddingsReply(Struct, frozen=True, kw_only=True):
    """The vectors, in the order of the inputs."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    data: Annotated[tuple[EmbeddingObject, ...], Meta(description="The vectors.")]
    model: Annotated[str, Meta(description="The model that made them.", examples=["all-minilm-l6-v2"])]
    usage: EmbeddingsUsage


class ContentVector(Struct, frozen=True):
    """The vector of one input, as llama.cpp gives it: a list of one."""

    index: Annotated[int, Meta(description="The place of the input, from 0.", examples=[0])]
    embedding: Annotated[
        tuple[tuple[float, ...], ...], Meta(description="The vector.", examples=[[[0.0213, -0.0071, 0.0459]]])
    ]


embeddings_decoder = msgspec.json.Decoder(EmbeddingsBody)
content_decoder = msgspec.json.Decoder(ContentBody)
