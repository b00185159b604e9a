"""From the bodies of the embedding routes to questions, and from the vectors to replies."""

from array import array
from base64 import b64encode
from collections.abc import Iterator
from functools import partial

import msgspec

from gateway.api.embeddings.operation import CONTENT_OPERATION, EMBEDDINGS_OPERATION
from gateway.api.embeddings.schema import (
    MOST_INPUTS,
    ContentBody,
    ContentVector,
    EmbeddingObject,
    EmbeddingsBody,
    EmbeddingsUsage,
    Inputs,
    content_decoder,
    embeddings_decoder,
)
from gateway.api.exchange.question import QuestionEndpoint, QuestionRoute
from gateway.engine import (
    Capability,
    Completion,
    Embeddings,
    EmbedRequest,
    EmbedRole,
    EngineError,
    InvalidRequest,
    Tokens,
)
from gateway.flow.offload import offload, offload_large
from gateway.questions import Inquiry, Questions

_ROLES: dict[str | None, EmbedRole] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
}
# Numbers of a reply: some twenty megabytes as they are written.
_MOST_NUMBERS = {"float": 1 << 20, "base64": 1 << 22}
_MOST_CONTENT = 1 << 17
_BYTES = 4
_encode = msgspec.json.encode


async def _embed(questions: Questions, inquiry: Inquiry, body: EmbeddingsBody) -> bytes:
    """Make the vectors of the inputs, and the reply in JSON."""
    card = inquiry.target.card
    form = body.encoding_format or "float"
    truncate = body.truncate_prompt_tokens
    if truncate == 0:
        raise InvalidRequest("truncate_prompt_tokens is 0: nothing would be read", param="truncate_prompt_tokens")
    made = await questions.embed(
        inquiry,
        EmbedRequest(
            id="",
            model=card.name,
            inputs=await offload_large(inquiry.weight, partial(to_inputs, body.input, "input")),
            dimensions=body.dimensions,
            role=_ROLES.get(body.input_type),
            truncate=card.context_window if truncate == -1 else truncate,
        ),
    )
    numbers = _count(made)
    if numbers > _MOST_NUMBERS[form]:
        raise InvalidRequest(
            f"the vectors have {numbers:,} numbers; {_MOST_NUMBERS[form]:,} are told at once: send fewer inputs"
            f"{', or ask for base64' if form == 'float' else ''}",
            param="input",
        )

    def write() -> bytes:
        usage = EmbeddingsUsage(made.prompt_tokens, made.prompt_tokens)
        data = b",".join(_objects(made, form))
        tail = b'],"model":%b,"usage":%b}' % (_encode(card.name), _encode(usage))
        return b'{"object":"list","data":[' + data + tail

    return await offload(numbers, write)


async def _embed_content(questions: Questions, inquiry: Inquiry, body: ContentBody) -> tuple[ContentVector, ...]:
    """Make the vectors of the contents."""
    inputs = await offload_large(inquiry.weight, partial(to_inputs, body.content, "content"))
    made = await questions.embed(inquiry, EmbedRequest(id="", model=inquiry.target.card.name, inputs=inputs))
    if (numbers := _count(made)) > _MOST_CONTENT:
        raise InvalidRequest(f"the vectors have {numbers:,} numbers; POST /v1/embeddings tells more", param="content")
    return tuple(ContentVector(index, (tuple(array("f", vector)),)) for index, vector in enumerate(made.vectors))


def to_inputs(given: Inputs, param: str) -> tuple[Completion | Tokens, ...]:
    """Translate one input or several; raise `InvalidRequest` for a list of both texts and tokens, or too many."""
    if isinstance(given, str):
        return (Completion(given),)
    if all(isinstance(one, int) for one in given):
        return (Tokens(tuple(one for one in given if isinstance(one, int))),)
    if len(given) > MOST_INPUTS:
        raise InvalidRequest(f"there are {len(given)} inputs; {MOST_INPUTS} are the most at once", param=param)
    if len({type(one) for one in given}) > 1:
        raise InvalidRequest("the list has texts beside tokens; send one kind", param=param)
    return tuple(Completion(one) if isinstance(one, str) else Tokens(one) for one in given if not isinstance(one, int))


def _count(made: Embeddings) -> int:
    return sum(len(vector) for vector in made.vectors) // _BYTES


def _objects(made: Embeddings, form: str) -> Iterator[bytes]:
    """Write the vectors one by one, so that other threads have their turn between two."""
    for index, vector in enumerate(made.vectors):
        numbers = b64encode(vector).decode() if form == "base64" else tuple(array("f", vector))
        yield _encode(EmbeddingObject(index=index, embedding=numbers))


def _reword(error: EngineError, body: EmbeddingsBody | ContentBody) -> None:
    """Say in these routes' words which field an error is about."""
    text = "input" if isinstance(body, EmbeddingsBody) else "content"
    words = {
        Capability.EMBEDDING: "model",
        "truncate": "truncate_prompt_tokens",
        "role": "input_type",
        "input": text,
        "prompt": text,
        "tokens": text,
    }
    error.param = None if error.param is None else words.get(error.param, error.param)


ROUTES = (
    QuestionRoute(
        path="/v1/embeddings",
        aliases=("/embeddings",),
        name="embed",
        tag="embeddings",
        summary="Turn texts into vectors",
        description="Return a vector for each text, in their order.",
        operation=EMBEDDINGS_OPERATION,
        endpoint=QuestionEndpoint(decoder=embeddings_decoder, ask=_embed, reword=_reword),
    ),
    QuestionRoute(
        path="/embedding",
        name="embedContent",
        tag="embeddings",
        summary="Turn a text into a vector, as llama.cpp does",
        description="Return a vector for each content, in their order.",
        operation=CONTENT_OPERATION,
        endpoint=QuestionEndpoint(decoder=content_decoder, ask=_embed_content, reword=_reword),
    ),
)
