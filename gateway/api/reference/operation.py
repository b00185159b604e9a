"""How the documentation describes a route whose body and answers Litestar does not see."""

from collections.abc import Mapping

import msgspec
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Struct

from gateway.api.http.sse import DONE

# What the answer of a generation may have in its head.
HEADERS = {
    name: Reference(f"#/components/headers/{name}")
    for name in ("x-cache", "x-failed-choices", "x-finish-detail", "x-ignored-params")
}


class BodyDoc(Struct, frozen=True):
    """A body, and examples of it."""

    kind: type[Struct]
    examples: Mapping[str, object]


class ReplyDoc(Struct, frozen=True):
    """A whole answer."""

    kind: type[Struct]
    example: Struct


class StreamDoc(Struct, frozen=True):
    """A stream: the kinds of its frames, what is to be said of them, and an example."""

    kinds: tuple[type[Struct], ...]
    description: str
    example: tuple[Struct, ...]


def describe(operation: Operation, asked: BodyDoc, answered: ReplyDoc, streamed: StreamDoc) -> None:
    """Fill in what Litestar left open: the body, and its answer whole and streamed."""
    describe_body(operation, asked)
    operation.responses = (operation.responses or {}) | {"200": _answered(answered, streamed)}


def describe_body(operation: Operation, asked: BodyDoc) -> None:
    """Fill in the body."""
    operation.request_body = RequestBody(required=True, content={"application/json": _asked(asked)})


def _asked(asked: BodyDoc) -> OpenAPIMediaType:
    examples = {name: Example(summary=name, value=value) for name, value in asked.examples.items()}
    return OpenAPIMediaType(schema=_reference(asked.kind), examples=dict(examples))


def _answered(answered: ReplyDoc, streamed: StreamDoc) -> OpenAPIResponse:
    whole, stream = (
        Example(summary="whole", value=answered.example),
        Example(summary="stream", value=_written(streamed)),
    )
    return OpenAPIResponse(
        description="The answer: whole, or as a stream of frames.",
        headers=dict(HEADERS),
        content={
            "application/json": OpenAPIMediaType(schema=_reference(answered.kind), examples={"whole": whole}),
            "text/event-stream": OpenAPIMediaType(schema=_frames(streamed), examples={"stream": stream}),
        },
    )


def _frames(streamed: StreamDoc) -> Schema:
    return Schema(
        title="Frames",
        type=OpenAPIType.STRING,
        description=streamed.description,
        content_media_type="text/event-stream",
        content_schema=Schema(any_of=[_reference(kind) for kind in streamed.kinds]),
    )


def _written(streamed: StreamDoc) -> str:
    frames = [b"data: " + msgspec.json.encode(frame) + b"\n\n" for frame in streamed.example]
    return b"".join([*frames, DONE]).decode()


def _reference(kind: type[Struct]) -> Reference:
    return Reference(f"#/components/schemas/{kind.__name__}")
